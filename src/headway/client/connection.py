"""The API process's end of the wire: frames in, messages out, on the event loop.

Writing never blocks (the event loop buffers what the engine has not read yet), so the two
processes cannot wait for each other. A frame that cannot be read ends the connection, as does the
engine's death; the owner hears of either once.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Sequence
from typing import cast

import msgspec

from headway.types import Request
from headway.wire import HEADER, FromEngine, Submit, ToEngine, body_length, pack, read_from_engine

MAX_FRAME_TOKENS = 2**20
"""Prompt and generated tokens in one `Submit`; keeps its frame to a few megabytes."""


class Connection(asyncio.Protocol):
    """One engine process's socket. `lost` is done, with a reason or "", when it is over."""

    def __init__(self, on_message: Callable[[FromEngine], None]) -> None:
        self.lost: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._on_message = on_message
        self._buffer = bytearray()
        self._transport: asyncio.Transport | None = None

    @classmethod
    async def open(
        cls, sock: socket.socket, on_message: Callable[[FromEngine], None]
    ) -> Connection:
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
