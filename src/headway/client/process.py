"""The engine's operating-system process: its connection, when to start the next, its counters.

The process inherits one end of a socket pair; when the other end closes, for whatever reason, it
exits by itself. It gets a process group of its own, so that Ctrl-C reaches the API process alone,
which decides what becomes of the engine.

Writing never blocks (the event loop buffers what the engine has not read yet), so the two
processes cannot wait for each other. A message that cannot be decoded ends the connection, as does
the engine's death; the owner learns of either once.

A death while requests ran is the journal's to explain (one of them may make the engine die). A
death without any must be the fault of the machine or the model: after a few in a row, the engine
has failed. Counters go on over restarts, and never fall.
"""

from __future__ import annotations

import asyncio
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from typing import cast

import msgspec
from msgspec.structs import replace

from headway.errors import EngineError, HeadwayError
from headway.types import Request
from headway.wire import (
    HEADER,
    EngineStats,
    Failed,
    FromEngine,
    Submit,
    ToEngine,
    body_length,
    pack,
    read_from_engine,
)

MAX_FRAME_TOKENS = 2**20
"""Prompt and generated tokens in one `Submit`; keeps its frame to a few megabytes."""


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

    def send(self, message: ToEngine) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(pack(message))

    def submit(self, requests: Sequence[Request]) -> None:
        """Send requests, in as many frames as they need."""
        batch: list[Request] = []
        size = 0
        for request in requests:
            tokens = len(request.prompt) + len(request.generated)
            if batch and size + tokens > MAX_FRAME_TOKENS:
                self.send(Submit(requests=batch))
                batch, size = [], 0
            batch.append(request)
            size += tokens
        if batch:
            self.send(Submit(requests=batch))

    def close(self, reason: str = "") -> None:
        """Hang up at once; what was not yet written is dropped."""
        if not self.lost.done():
            self.lost.set_result(reason)
        if self._transport is not None:
            self._transport.abort()

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


DEFAULT_COMMAND = (sys.executable, "-m", "headway.engine")
GRACE = 2.0
"""Seconds that an engine gets to exit by itself once its socket is closed."""


def spawn(command: Sequence[str]) -> tuple[subprocess.Popen[bytes], socket.socket]:
    """Start an engine with `--fd N` appended; returns the process and our end of its socket.

    Its standard output goes to standard error: the former belongs to the program that we serve.
    """
    ours, theirs = socket.socketpair()
    with theirs:
        try:
            process = subprocess.Popen(
                [*command, "--fd", str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=2,
                process_group=0,
            )
        except OSError as error:
            ours.close()
            raise EngineError(f"cannot start the engine program {command[0]}: {error}") from error
    return process, ours


async def reap(process: subprocess.Popen[bytes], *, grace: float = GRACE) -> int:
    """Wait for the end of a process, by force after `grace` seconds; returns its exit code."""
    deadline = time.monotonic() + grace
    try:
        while (code := process.poll()) is None:
            if time.monotonic() >= deadline:
                process.kill()
            await asyncio.sleep(0.005)
    except asyncio.CancelledError:
        process.kill()
        process.wait()
        raise
    return code


class EngineProcess:
    """One engine process and the connection to it."""

    def __init__(self, process: subprocess.Popen[bytes], connection: EngineConnection) -> None:
        self.process = process
        self.connection = connection
        self.started = time.monotonic()
        self.failed: Failed | None = None
        """The error that it reported before it ended."""
        self.useful = False
        """Whether any token came from it."""

    @classmethod
    async def launch(
        cls, command: Sequence[str], on_message: Callable[[FromEngine], None]
    ) -> EngineProcess:
        """Start a process and connect to it; raises `EngineError` where that is not possible."""
        process, sock = spawn(command)
        try:
            return cls(process, await EngineConnection.open(sock, on_message))
        except BaseException:
            sock.close()
            process.kill()
            process.wait()
            raise

    async def end(self) -> int:
        """Hang up, and wait until the process is gone; returns its exit code."""
        self.connection.close()
        return await reap(self.process)

    async def death_reason(self, when: str) -> HeadwayError:
        """The error that explains the death; waits until the process is gone."""
        code = await self.end()
        if self.failed is not None:
            return HeadwayError(self.failed.message, field=self.failed.field)
        reason = self.connection.lost.result()
        if not reason:
            reason = f"signal {-code}" if code < 0 else f"exit code {code}"
        return EngineError(f"the engine process ended {when} ({reason})")


MAX_DEATHS = 5
HEALTHY_SECONDS = 60.0
"""An engine that lived this long, or delivered any token, clears the count of earlier deaths."""
FIRST_WAIT = 0.5

COUNTERS = (
    "step",
    "preemptions",
    "computed_tokens",
    "prefix_queries",
    "prefix_hits",
    "busy_seconds",
    "ideal_seconds",
)


class RestartPolicy:
    """Counts deaths that no request explains; the wait before a restart doubles with each."""

    def __init__(self) -> None:
        self._deaths = 0

    def died(self, *, lifetime: float, useful: bool, explained: bool) -> float | None:
        """Seconds to wait before the next start; None if there should be none.

        `useful` says that tokens came from the engine that died, `explained` that it had requests.
        """
        if useful or lifetime >= HEALTHY_SECONDS:
            self._deaths = 0
        if explained:
            return 0.0
        self._deaths += 1
        if self._deaths >= MAX_DEATHS:
            return None
        return 0.0 if self._deaths == 1 else FIRST_WAIT * 2 ** (self._deaths - 2)


class MonotonicStats:
    """The latest statistics, with the counts of earlier engine processes added.

    Every engine process counts from zero; whoever reads the counters must not notice.
    """

    def __init__(self) -> None:
        self.latest = EngineStats()
        self._before: EngineStats | None = None

    def update(self, stats: EngineStats) -> EngineStats:
        """Take in what the present engine process reports; returns the new `latest`."""
        if self._before is not None:
            before = self._before
            stats = replace(
                stats, **{name: getattr(stats, name) + getattr(before, name) for name in COUNTERS}
            )
        self.latest = stats
        return stats

    def engine_died(self) -> EngineStats:
        """Nothing runs any more; what was counted stays counted."""
        counted = {name: getattr(self.latest, name) for name in COUNTERS}
        self.latest = self._before = EngineStats(**counted)
        return self.latest
