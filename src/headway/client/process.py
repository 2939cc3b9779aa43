"""The engine's operating-system process and the connection to it.

The process inherits one end of a socket pair; when the other end closes, for whatever reason, it
exits by itself. It gets a process group of its own, so that Ctrl-C reaches the API process alone,
which decides what becomes of the engine.

Writing never blocks (the event loop buffers what the engine has not read yet), so the two
processes cannot wait for each other. A message that cannot be decoded ends the connection, as does
the engine's death; the owner learns of either once.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import cast

import msgspec

from headway.client.descriptors import SHORTAGES, DescriptorReserve
from headway.client.watchdog import EngineWatch
from headway.config import EngineConfig
from headway.errors import EngineError, HeadwayError
from headway.logs import log_format
from headway.types import Request
from headway.wire import (
    HEADER,
    Failed,
    FromEngine,
    PreparedDraft,
    Start,
    Watch,
    body_length,
    pack,
    pack_aborts,
    pack_requests,
    read_from_engine,
)

logger = logging.getLogger(__name__)


class EngineConnection(asyncio.Protocol):
    """One engine process's socket. `lost` is done, with a reason or "", when it is over."""

    def __init__(self, on_message: Callable[[FromEngine], None]) -> None:
        self.lost: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._on_message = on_message
        self._buffer = bytearray()
        self._transport: asyncio.Transport | None = None

    @classmethod
    async def open(
        cls, sock: socket.socket, on_message: Callable[[FromEngine], None]
    ) -> EngineConnection:
        loop = asyncio.get_running_loop()
        _, protocol = await loop.create_unix_connection(lambda: cls(on_message), sock=sock)
        return protocol

    def start(self, message: Start) -> None:
        """Send the first message."""
        self._send([pack(message)])

    def submit(self, requests: Sequence[Request]) -> list[tuple[Request, str]]:
        """Send requests; returns those that no message can hold, each with the reason."""
        frames, refused = pack_requests(requests)
        self._send(frames)
        return refused

    def abort(self, ids: Sequence[str]) -> None:
        """Have the engine end requests."""
        self._send(pack_aborts(ids)[0])  # Ids that cannot be sent never were.

    def watch(self, interval: float | None) -> None:
        """Have the engine tell its batch every so many seconds, or no more."""
        self._send([pack(Watch(interval=interval))])

    def close(self, reason: str = "") -> None:
        """Hang up at once; what was not yet written is dropped."""
        if not self.lost.done():
            self.lost.set_result(reason)
        if self._transport is not None:
            self._transport.abort()

    def _send(self, frames: Sequence[bytes]) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.writelines(frames)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def connection_lost(self, exc: Exception | None) -> None:
        self.close("" if exc is None else str(exc))

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        try:
            self._read_frames()
        except (ValueError, msgspec.MsgspecError) as error:
            self.close(f"unreadable message from the engine: {error}")
        except Exception as error:
            logger.exception("a message from the engine could not be taken in")
            self.close(f"a message from it could not be taken in: {type(error).__name__}: {error}")

    def _read_frames(self) -> None:
        buffer = self._buffer
        start = 0
        while len(buffer) - start >= HEADER.size and not self.lost.done():
            body = start + HEADER.size
            end = body + body_length(bytes(buffer[start:body]))
            if len(buffer) < end:
                break
            message = read_from_engine(bytes(memoryview(buffer)[body:end]))
            start = end
            self._on_message(message)
        del buffer[:start]


def start_message(
    config: EngineConfig,
    prepared: Path,
    draft: PreparedDraft | None,
    *,
    cpus: tuple[int, ...] = (),
    gpu: str = "",
) -> Start:
    """What tells an engine process what to run. It logs as this process does."""
    return Start(
        config=config,
        prepared=str(prepared),
        draft=draft,
        log_level=logging.getLogger().getEffectiveLevel(),
        log_format=log_format(),
        cpus=cpus,
        gpu=gpu,
    )


DEFAULT_COMMAND = (sys.executable, "-m", "headway.engine")
GRACE = 2.0
"""Seconds that an engine gets to exit by itself once its socket is closed."""
KILL_SECONDS = 10.0
"""Seconds that a killed process gets to disappear. One that waits for a device may never do so."""


class Shortage(EngineError):
    """The machine lacks descriptors or memory for a process at present; it may be tried again."""


def spawn(
    command: Sequence[str], reserve: DescriptorReserve, inherited: Sequence[int] = ()
) -> tuple[subprocess.Popen[bytes], socket.socket]:
    """Start an engine with `--fd N` appended; returns the process and our end of its socket.

    It has the descriptors `inherited` under the same numbers. Its standard output goes to standard
    error: the former belongs to the program that we serve.
    Raises `Shortage`, or `EngineError` where the program cannot be run at all.
    """
    try:
        with reserve.lent():
            ours, theirs = socket.socketpair()
            with theirs:
                try:
                    process = subprocess.Popen(
                        [*command, "--fd", str(theirs.fileno())],
                        pass_fds=[theirs.fileno(), *inherited],
                        stdin=subprocess.DEVNULL,
                        stdout=2,
                        process_group=0,
                    )
                except BaseException:
                    ours.close()
                    raise
    except OSError as error:
        raise _cannot_start(command, error) from error
    return process, ours


def _cannot_start(command: Sequence[str], error: OSError) -> EngineError:
    kind = Shortage if error.errno in SHORTAGES else EngineError
    return kind(f"cannot start the engine program {command[0]}: {error}")


async def reap(process: subprocess.Popen[bytes], *, grace: float = GRACE) -> int | None:
    """Wait for the end of a process, by force after `grace` seconds; returns its exit code.

    None for a process that does not even end by force; it is left behind.
    """
    deadline = time.monotonic() + grace
    killed = False
    try:
        while (code := process.poll()) is None:
            if time.monotonic() >= deadline:
                if killed:
                    logger.error("engine process pid=%d cannot be killed; left behind", process.pid)
                    return None
                process.kill()
                killed = True
                deadline += KILL_SECONDS
            await asyncio.sleep(0.005)
    except asyncio.CancelledError:
        process.kill()
        process.wait(KILL_SECONDS)
        raise
    return code


class EngineProcess:
    """One engine process and the connection to it."""

    def __init__(self, process: subprocess.Popen[bytes], connection: EngineConnection) -> None:
        self.process = process
        self.connection = connection
        self.started = time.monotonic()
        self.watch = EngineWatch()
        self.failed: Failed | None = None
        """The error that it reported before it ended."""
        self.useful = False
        """Whether any token came from it."""
        self.exit_code: int | None = None
        """Negative for a signal; None before its end, and for one that cannot be killed."""

    @classmethod
    async def launch(
        cls,
        command: Sequence[str],
        on_message: Callable[[FromEngine], None],
        reserve: DescriptorReserve,
        inherited: Sequence[int] = (),
    ) -> EngineProcess:
        """Start a process and connect to it; raises `EngineError` where that is not possible.

        `inherited` are descriptors that it is to have too.
        """
        process, sock = spawn(command, reserve, inherited)
        try:
            return cls(process, await EngineConnection.open(sock, on_message))
        except BaseException as error:
            sock.close()
            process.kill()
            process.wait(KILL_SECONDS)
            if isinstance(error, OSError):
                raise _cannot_start(command, error) from error
            raise

    def kill(self, reason: str) -> None:
        """End the process by force and at once; whoever waits for it learns the reason."""
        self.process.kill()
        self.connection.close(reason)

    async def end(self) -> int | None:
        """Hang up, and wait until the process is gone; returns its exit code, as `reap` does."""
        self.connection.close()
        self.exit_code = await reap(self.process)
        return self.exit_code

    async def death_reason(self, when: str) -> HeadwayError:
        """The error that explains the death; waits until the process is gone."""
        code = await self.end()
        if self.failed is not None:
            return HeadwayError(self.failed.message, field=self.failed.field)
        reason = self.connection.lost.result()
        if not reason and code is not None:
            reason = f"signal {-code}" if code < 0 else f"exit code {code}"
        return EngineError(f"the engine process ended {when} ({reason or 'it cannot be killed'})")
