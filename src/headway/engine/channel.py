"""The engine's end of the socket: a thread that reads, and sends that do not block.

Two threads send, the loop and the heartbeat, and a frame of one never begins within one of the
other: whatever is sent is appended to the unsent bytes under a lock, which nobody holds while
waiting.

The reader fills a queue, which the loop empties between steps. When the socket closes, the API
process is gone or has closed this engine, and the process exits at once, even in the middle of a
step. A peer that does not read cannot delay a step: unsent bytes are kept and sent later. Knows
nothing of what the messages mean.
"""

from __future__ import annotations

import os
import select
import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from queue import Empty, SimpleQueue

from headway.types import TokenEvent
from headway.wire import (
    HEADER,
    EngineStats,
    FromEngine,
    Heartbeat,
    ToEngine,
    body_length,
    pack,
    pack_events,
    read_to_engine,
)

MAX_UNSENT = 64 * 2**20
"""Bytes kept for a peer that does not read; beyond that, sending blocks."""
LAST_MESSAGE_WAIT = 5.0
"""Seconds that a last message may take to be read."""


class BadFrame(Exception):
    """The peer sent something that is not a message."""


def exit_now() -> None:
    os._exit(0)


class Channel:
    """Both directions of the socket. `on_hangup` is called by the reader thread when it closes."""

    def __init__(self, sock: socket.socket, *, on_hangup: Callable[[], None] = exit_now) -> None:
        self._sock = sock
        self._on_hangup = on_hangup
        self._inbox: SimpleQueue[ToEngine | BadFrame] = SimpleQueue()
        self._unsent = bytearray()
        self._sending = threading.Lock()
        threading.Thread(target=self._read, name="engine-reader", daemon=True).start()

    @property
    def has_unsent(self) -> bool:
        """Whether the peer has not yet read everything that was sent."""
        return bool(self._unsent)

    def receive(self, wait: float | None) -> list[ToEngine]:
        """All messages that arrived; if none, wait up to `wait` seconds for one (None: for ever).

        Raises `BadFrame` if the peer sent bytes that are not a message.
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
        """Send as much as the socket accepts now and keep the rest for `flush`."""
        self._send([pack(message)])

    def send_events(
        self, events: list[TokenEvent], stats: EngineStats
    ) -> list[tuple[TokenEvent, str]]:
        """Send what a step gave; returns the events that no message can hold, with the reason."""
        frames, refused = pack_events(events, stats)
        self._send(frames)
        return refused

    def send_heartbeat(self, message: Heartbeat) -> None:
        """Send a heartbeat, and what the loop left unsent, since a long step keeps it from that."""
        frame = pack(message)
        with self._sending:
            if len(self._unsent) < MAX_UNSENT:
                self._unsent += frame
            self._send_some()

    def flush(self, wait: float | None) -> None:
        """Send unsent bytes, for up to about `wait` seconds (None: until all are sent)."""
        poll = select.poll()  # Unlike `select.select`, it takes descriptors above 1023.
        poll.register(self._sock, select.POLLOUT)
        while True:
            with self._sending:
                self._send_some()
            if not self._unsent or not poll.poll(None if wait is None else wait * 1000):
                return

    def _send(self, frames: list[bytes]) -> None:
        with self._sending:
            for frame in frames:
                self._unsent += frame
            self._send_some()
        if len(self._unsent) > MAX_UNSENT:
            self.flush(None)

    def _send_some(self) -> None:
        """Send what the socket accepts now; called with the lock."""
        while self._unsent:
            try:
                sent = self._sock.send(self._unsent, socket.MSG_DONTWAIT)
            except BlockingIOError:
                return
            except OSError:
                # The peer is gone; the reader notices, too, and ends this process.
                self._unsent.clear()
                return
            del self._unsent[:sent]

    def _read(self) -> None:
        with suppress(OSError):
            self._read_messages()
        self._on_hangup()

    def _read_messages(self) -> None:
        try:
            while True:
                length = body_length(bytes(self._exactly(HEADER.size)))
                self._inbox.put(read_to_engine(bytes(self._exactly(length))))
        except OSError:
            raise
        except Exception as error:  # Too little memory for a frame is one, too.
            self._inbox.put(BadFrame(str(error) or type(error).__name__))
            # What follows cannot be decoded; only the end of the connection still matters.
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
