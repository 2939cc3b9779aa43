"""The engine's end of the wire: a thread that reads, and sends that do not wait.

The reader fills a queue, which the loop empties between steps. When the socket closes, the API
process is gone or wants no more of us, and this process exits at once, in the middle of a step
too. A peer that does not read cannot hold up a step: what it has not taken is kept and offered
again. Knows nothing of what the messages mean.
"""

from __future__ import annotations

import os
import select
import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from queue import Empty, SimpleQueue

import msgspec

from headway.wire import HEADER, FromEngine, ToEngine, body_length, pack, read_to_engine

MAX_UNSENT = 64 * 2**20
"""Bytes kept for a peer that does not read; beyond that, the engine waits for it."""
LAST_WORDS = 5.0
"""Seconds that a last message may take to be read."""


class BadFrame(Exception):
    """The peer sent something that is no message."""


def exit_now() -> None:
    os._exit(0)


class Channel:
    """Both directions of the socket. `on_hangup` runs in the reader thread at its end."""

    def __init__(self, sock: socket.socket, *, on_hangup: Callable[[], None] = exit_now) -> None:
        self._sock = sock
        self._on_hangup = on_hangup
        self._inbox: SimpleQueue[ToEngine | BadFrame] = SimpleQueue()
        self._unsent = bytearray()
        threading.Thread(target=self._read, name="engine-reader", daemon=True).start()

    @property
    def behind(self) -> bool:
        """Whether the peer has yet to take something."""
        return bool(self._unsent)

    def receive(self, wait: float | None) -> list[ToEngine]:
        """All messages there are; where there is none, wait up to `wait` seconds (None: for ever).

        Raises `BadFrame` where the peer does not speak our language.
        """
        messages: list[ToEngine] = []
        try:
            first = self._inbox.get_nowait() if wait == 0 else self._inbox.get(timeout=wait)
            while True:
                if isinstance(first, BadFrame):
                    raise first
                messages.append(first)
                first = self._inbox.get_nowait()
        except Empty:
            return messages

    def send(self, message: FromEngine) -> None:
        """Send what the peer takes now and keep the rest for `flush`."""
        self._unsent += pack(message)
        self.flush(None if len(self._unsent) > MAX_UNSENT else 0.0)

    def flush(self, wait: float | None) -> None:
        """Offer what was kept again, for up to about `wait` seconds (None: until it is taken)."""
        while self._unsent:
            try:
                sent = self._sock.send(self._unsent, socket.MSG_DONTWAIT)
                del self._unsent[:sent]
            except BlockingIOError:
                if not select.select([], [self._sock], [], wait)[1]:
                    return
            except OSError:
                # Nobody listens any more; the reader notices and ends this process.
                self._unsent.clear()

    def _read(self) -> None:
        with suppress(OSError):
            self._read_messages()
        self._on_hangup()

    def _read_messages(self) -> None:
        try:
            while True:
                length = body_length(bytes(self._exactly(HEADER.size)))
                self._inbox.put(read_to_engine(bytes(self._exactly(length))))
        except (ValueError, msgspec.MsgspecError) as error:
            self._inbox.put(BadFrame(str(error)))
            # Whatever follows means nothing; only the end of the connection still matters.
            while self._sock.recv(65536):
                pass

    def _exactly(self, size: int) -> bytearray:
        data = bytearray(size)
        view = memoryview(data)
        while view:
            received = self._sock.recv_into(view)
            if received == 0:
                raise ConnectionResetError
            view = view[received:]
        return data
