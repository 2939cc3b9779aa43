"""A process that does what others wrote, within limits, as its owner sees it.

It gets a frame and answers with one.

It is given no environment and no open files but its standard input, a socket. What it may do is its
own affair (`headway.text.render_worker`, `headway.text.grammar_worker`).
"""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
from collections.abc import Sequence

from headway.client.process import reap
from headway.environment import locale_environment
from headway.errors import Unavailable
from headway.text.render_worker import FRAME_HEADER, MAX_FRAME


class WorkerProcess:
    """One process, and the connection to it."""

    def __init__(
        self,
        process: subprocess.Popen[bytes],
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        self._process = process
        self._reader = reader
        self._writer = writer

    @classmethod
    async def launch(cls, command: Sequence[str], purpose: str) -> WorkerProcess:
        """Start it; raises `Unavailable` that names its purpose ("renders chat templates")."""
        try:
            ours, theirs = socket.socketpair()
            with theirs:
                try:
                    process = _spawn(command, theirs)
                except BaseException:
                    ours.close()
                    raise
        except OSError as error:
            raise Unavailable(f"cannot start the process that {purpose}: {error}") from error
        try:
            return cls(process, *await asyncio.open_unix_connection(sock=ours))
        except BaseException:
            ours.close()
            process.kill()
            process.wait()
            raise

    @property
    def ended(self) -> bool:
        return self._process.poll() is not None

    async def ask(self, body: bytes) -> bytes:
        """The body of its answer; raises `OSError` or `EOFError` where it has none."""
        self._writer.write(FRAME_HEADER.pack(len(body)) + body)
        await self._writer.drain()
        (length,) = FRAME_HEADER.unpack(await self._reader.readexactly(FRAME_HEADER.size))
        if length > MAX_FRAME:
            raise EOFError("not a frame")
        return await self._reader.readexactly(length)

    async def end(self) -> int | None:
        """End the process if it has not ended by itself; its exit code, None if it stays."""
        self._writer.transport.abort()
        return await reap(self._process, grace=0.05)


def _spawn(command: Sequence[str], connection: socket.socket) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        command,
        stdin=connection.fileno(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={**locale_environment(), "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        process_group=0,  # Ctrl-C is not for it
    )
