"""Accepts connections, no more than there is room for, and hands them to the HTTP protocol.

The event loops' own servers accept whatever comes: until descriptors run out, and then nobody gets
in, nor an engine out. Here every connection is counted before it is accepted into the loop, TLS
handshakes included. What is too many gets a 503 and is closed.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections.abc import Iterator

import uvicorn

from headway.background import later, watched
from headway.logs import line
from headway.server.connections import Connections
from headway.server.errors import refusal_bytes
from headway.server.logs import log
from headway.server.protocol import HeadwayProtocol

ACCEPTS_PER_TURN = 64
"""Connections accepted before other work of the event loop has its turn."""
HANDSHAKE_SECONDS = 10.0
PAUSE_SECONDS = 0.25
"""How long nothing is accepted after the system had no descriptor for it."""


class Listener:
    """Accepts on one listening socket, for `server`, until closed."""

    def __init__(
        self, listening: socket.socket, server: uvicorn.Server, connections: Connections
    ) -> None:
        self._socket = listening
        self._server = server
        self._connections = connections
        self._loop = asyncio.get_running_loop()
        self._openings: set[asyncio.Task[None]] = set()
        self._pause: asyncio.TimerHandle | None = None
        self._warned = False
        listening.setblocking(False)
        self._loop.add_reader(listening, self._accept)

    def close(self) -> None:
        if self._pause is not None:
            self._pause.cancel()
        self._loop.remove_reader(self._socket)

    async def wait_closed(self) -> None:
        """Returns once no connection is being opened any more."""
        for task in self._openings:
            task.cancel()
        if self._openings:
            await asyncio.wait(self._openings)

    def _accept(self) -> None:
        for _ in range(ACCEPTS_PER_TURN):
            try:
                accepted, address = self._socket.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as error:
                self._stop_for_a_while(error)
                return
            host = address[0] if isinstance(address, tuple) else ""
            self._enter(accepted, host)

    def _enter(self, accepted: socket.socket, host: str) -> None:
        place = self._connections.enter(host)
        if place is None:
            self._refuse(accepted)
            return
        protocol = HeadwayProtocol(
            config=self._server.config,
            server_state=self._server.server_state,
            app_state={},
            _loop=self._loop,
            place=place,
        )
        task = watched(
            self._open(accepted, protocol),
            name="opening a connection",
            on_failure=lambda _: self._give_up(accepted, protocol),
        )
        self._openings.add(task)
        task.add_done_callback(self._openings.discard)

    async def _open(self, accepted: socket.socket, protocol: HeadwayProtocol) -> None:
        tls = self._server.config.ssl
        seconds = HANDSHAKE_SECONDS if tls else None
        try:
            accepted.setblocking(False)
            await self._loop.connect_accepted_socket(
                lambda: protocol, accepted, ssl=tls, ssl_handshake_timeout=seconds
            )
        except (OSError, ssl.SSLError, asyncio.CancelledError):
            # The client left, or spoke no TLS: nobody is left to tell.
            self._give_up(accepted, protocol)

    def _give_up(self, accepted: socket.socket, protocol: HeadwayProtocol) -> None:
        accepted.close()
        protocol.place.leave()

    def _refuse(self, accepted: socket.socket) -> None:
        with accepted:
            if self._server.config.ssl is None:
                accepted.setblocking(False)
                try:
                    accepted.send(refusal_bytes(503, "too many connections; try again later"))
                except OSError:
                    return

    def _stop_for_a_while(self, error: BaseException) -> None:
        """No descriptor, most likely: a silent connection gives its own, and accepting pauses."""
        if not self._warned:
            self._warned = True
            log.error(line("accept_failed", reason=str(error)))
        self._connections.make_room()
        self._loop.remove_reader(self._socket)
        self._pause = later(
            PAUSE_SECONDS,
            lambda: self._loop.add_reader(self._socket, self._accept),
            name="accepting again",
            on_failure=self._stop_for_a_while,
        )


class HttpServer(uvicorn.Server):
    """uvicorn's server with listeners of ours, and without its own signal handlers, which would end
    the process with the signal."""

    def __init__(self, config: uvicorn.Config, connections: Connections) -> None:
        super().__init__(config)
        self.connections = connections

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        self.servers = [Listener(each, self, self.connections) for each in sockets or ()]  # type: ignore[misc]
        self.started = True
