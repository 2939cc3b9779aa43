"""The engine's operating-system process: start it, say why it died, leave none behind.

It inherits one end of a socket pair; when the other end closes, for whatever reason, it exits by
itself. It gets a process group of its own, so that Ctrl-C reaches this process alone, which
decides what becomes of the engine.
"""

from __future__ import annotations

import asyncio
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence

from headway.client.connection import Connection
from headway.errors import EngineError, HeadwayError
from headway.wire import Failed, FromEngine

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

    def __init__(self, process: subprocess.Popen[bytes], connection: Connection) -> None:
        self.process = process
        self.connection = connection
        self.born = time.monotonic()
        self.failed: Failed | None = None
        """What it said of its own end."""
        self.useful = False
        """Whether any token came from it."""

    @classmethod
    async def launch(
        cls, command: Sequence[str], on_message: Callable[[FromEngine], None]
    ) -> EngineProcess:
        """Start a process and connect to it; raises `EngineError` where that is not possible."""
        process, sock = spawn(command)
        try:
            return cls(process, await Connection.open(sock, on_message))
        except BaseException:
            sock.close()
            process.kill()
            process.wait()
            raise

    async def end(self) -> int:
        """Hang up, and wait until the process is gone; returns its exit code."""
        self.connection.close()
        return await reap(self.process)

    async def why_it_died(self, when: str) -> HeadwayError:
        """The reason in words, once the process is gone."""
        code = await self.end()
        if self.failed is not None:
            return HeadwayError(self.failed.message, field=self.failed.field)
        reason = self.connection.lost.result()
        if not reason:
            reason = f"signal {-code}" if code < 0 else f"exit code {code}"
        return EngineError(f"the engine process ended {when} ({reason})")
