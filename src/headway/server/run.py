"""Runs the server: socket, engine, signals, and an end that loses nothing.

The socket listens before the engine is up, so that an occupied port shows at once and early
clients get a 503. SIGTERM and SIGHUP drain: new requests get 503 on the open socket, those in
flight finish within `shutdown_timeout`. SIGINT, or a second SIGTERM, ends all at once, and clients
are told.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
import ssl
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import uvicorn
from starlette.applications import Starlette

from headway.background import watched
from headway.client.descriptors import raise_descriptor_limit
from headway.config import EngineConfig, ServerConfig
from headway.errors import HeadwayError, InvalidRequest
from headway.llm import AsyncLLM
from headway.llm.message_form import MessageForm
from headway.logs import line
from headway.server.admission import ServerState
from headway.server.app import attach_engine, build_app, build_state
from headway.server.connections import Connections, connection_bound
from headway.server.exposure import warn_of_exposure
from headway.server.limiting import watch_limiting_factor
from headway.server.listener import HttpServer
from headway.server.logs import log
from headway.server.operation import log_statistics, warn_of_threads
from headway.server.protocol import HEAD_SECONDS, HeadwayProtocol
from headway.types.thinking import UNLIMITED

FLUSH_SECONDS = 5
"""Time to hand the last bytes to clients once nothing is generated any more."""
FORCED_FLUSH_SECONDS = 1
POLL_SECONDS = 0.5
BACKLOG = 2048

StartEngine = Callable[[], Awaitable[AsyncLLM]]


class ShutdownRequest:
    """Whether the server is to end, and how soon. `code` is the exit code that this leads to."""

    def __init__(self) -> None:
        self.requested = asyncio.Event()
        self.immediate = asyncio.Event()
        self.code = 0
        self._told_to_end = False

    def on_signal(self, number: signal.Signals) -> None:
        log.info(line("signal", name=number.name))
        # A terminal that closes sends SIGHUP twice, and systemd sends it after SIGTERM: that is no
        # second request.
        if number == signal.SIGINT or (number == signal.SIGTERM and self._told_to_end):
            self.code = 128 + number
            self.immediate.set()
        self._told_to_end = self._told_to_end or number == signal.SIGTERM
        self.requested.set()

    def on_failure(self, error: BaseException) -> None:
        """Something that the server cannot do without has ended by this error."""
        log.error(line("failed", reason=f"{type(error).__name__}: {error}"))
        self.code = 1
        self.immediate.set()
        self.requested.set()


async def run_server(engine_config: EngineConfig, server_config: ServerConfig) -> int:
    """Serve until told to stop; returns the exit code.

    0 after SIGTERM or SIGHUP, 128 + its number after SIGINT or a second SIGTERM, 1 when the model
    could not be had or the engine failed for good. Raises `HeadwayError` where the address or the
    certificate cannot be had.
    """
    raise_descriptor_limit()
    state = build_state(server_config, model_name=engine_config.model)
    template = _template(server_config.chat_template)
    # So that the command ends at once for a name that there is not.
    form = MessageForm.choose(
        template,
        tool_call_parser=server_config.tool_call_parser,
        reasoning_parser=server_config.reasoning_parser,
    )
    if form.reasoning is None and server_config.reasoning_budget != UNLIMITED:
        raise InvalidRequest(
            "reasoning_budget needs reasoning_parser, which says where reasoning ends",
            field="reasoning_budget",
        )
    warn_of_threads(engine_config, replicas=server_config.replicas)

    async def start_engine() -> AsyncLLM:
        return await AsyncLLM.start(
            engine_config,
            chat_template=template,
            generation_config=server_config.generation_config,
            override_generation_config=server_config.override_generation_config or {},
            tool_call_parser=server_config.tool_call_parser,
            reasoning_parser=server_config.reasoning_parser,
            response_cache=server_config,
            fleet=server_config,
        )

    return await serve(state, start_engine)


async def serve(state: ServerState, start_engine: StartEngine) -> int:
    """`run_server` over any model that `start_engine` gives."""
    config = state.config
    app = build_app(state)
    server = make_server(app, tls=_tls(config))
    listener = listen(config)
    shutdown = ShutdownRequest()
    with _signals(shutdown):
        serving = watched(
            _serve_http(server, listener), name="HTTP server", on_failure=shutdown.on_failure
        )
        url = _url(config, listener)
        log.info(line("starting", url=url))
        warn_of_exposure(config, listener)
        watches: list[asyncio.Task[None]] = []
        llm: AsyncLLM | None = None
        try:
            began = time.monotonic()
            llm = await _start(start_engine, shutdown)
            if llm is not None:
                attach_engine(app, llm)
                log.info(line("listening", url=url))
                log.info(line("ready", seconds=time.monotonic() - began))
                watches.append(watch_limiting_factor(app.state.explainer))
                statistics = log_statistics(app.state.metrics, llm.client, config)
                watches += [] if statistics is None else [statistics]
                await _serve_until_stopped(state, shutdown)
        finally:
            app.state.live.close()
            await _close(server, serving, state, shutdown)
            for watch in watches:
                watch.cancel()
            listener.close()  # An HTTP server that failed did not do so.
            if llm is not None:
                await llm.close()
            if config.uds:
                Path(config.uds).unlink(missing_ok=True)
            log.info(line("stopped", code=shutdown.code))
    return shutdown.code


async def _serve_http(server: uvicorn.Server, listener: socket.socket) -> None:
    await server.serve(sockets=[listener])
    if not server.should_exit:
        raise RuntimeError("the HTTP server ended by itself")


async def _start(start_engine: StartEngine, shutdown: ShutdownRequest) -> AsyncLLM | None:
    """The model, or None where a signal came first, or it cannot be had, which is logged."""
    opening = asyncio.ensure_future(start_engine())  # awaited
    asked = asyncio.create_task(shutdown.requested.wait())  # awaited
    try:
        await asyncio.wait((opening, asked), return_when=asyncio.FIRST_COMPLETED)
        if not opening.done():
            return None
        return opening.result()
    except HeadwayError as error:
        shutdown.code = 1
        log.error(line("failed", field=error.field, reason=error.message, code=shutdown.code))
        return None
    finally:
        asked.cancel()
        if not opening.done():
            opening.cancel()
            with contextlib.suppress(asyncio.CancelledError, HeadwayError):
                await opening


async def _serve_until_stopped(state: ServerState, shutdown: ShutdownRequest) -> None:
    while not shutdown.requested.is_set():
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(shutdown.requested.wait(), POLL_SECONDS)
        if not state.alive:
            log.error(line("engine_failed"))
            shutdown.code = 1
            shutdown.immediate.set()
            return
    state.drain()
    if shutdown.immediate.is_set():
        return
    log.info(line("draining", requests=state.requests, seconds=state.config.shutdown_timeout))
    await _first(
        state.until_idle(), shutdown.immediate.wait(), seconds=state.config.shutdown_timeout
    )


async def _close(
    server: uvicorn.Server,
    serving: asyncio.Task[None],
    state: ServerState,
    shutdown: ShutdownRequest,
) -> None:
    """Cancel what is still in flight, hand over the last bytes, and end the HTTP server."""
    state.drain()
    if state.requests:
        log.info(line("aborting", requests=state.requests))
        state.cancel_all()
        await _first(state.until_idle(), seconds=FORCED_FLUSH_SECONDS)
    forced = shutdown.immediate.is_set()
    server.config.timeout_graceful_shutdown = FORCED_FLUSH_SECONDS if forced else FLUSH_SECONDS
    server.should_exit = True
    await asyncio.wait((serving,))  # Its failure was told to `shutdown`.


async def _first(*waits: Awaitable[object], seconds: float) -> None:
    """Wait for any of them, for so long at most."""
    tasks = [asyncio.ensure_future(wait) for wait in waits]  # awaited
    try:
        await asyncio.wait(tasks, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()


@contextlib.contextmanager
def _signals(shutdown: ShutdownRequest) -> Iterator[None]:
    loop = asyncio.get_running_loop()
    numbers = [signal.SIGINT, signal.SIGTERM]
    if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:  # which is how nohup starts a program
        numbers.append(signal.SIGHUP)
    for number in numbers:
        loop.add_signal_handler(number, shutdown.on_signal, number)
    try:
        yield
    finally:
        for number in numbers:
            loop.remove_signal_handler(number)


def listen(config: ServerConfig) -> socket.socket:
    """The listening socket; raises `InvalidRequest` where the address cannot be had."""
    try:
        if config.uds:
            return _listen_at(Path(config.uds))
        family = socket.AF_INET6 if ":" in config.host else socket.AF_INET
        return socket.create_server((config.host, config.port), family=family, backlog=BACKLOG)
    except OSError as error:
        where = config.uds or f"{config.host}:{config.port}"
        raise InvalidRequest(
            f"cannot listen on {where}: {error.strerror or error}", field="port"
        ) from None


def _listen_at(path: Path) -> socket.socket:
    """A listening Unix socket; replaces one that an earlier server left, and no other file."""
    if path.is_socket():
        path.unlink()
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        listener.bind(str(path))
        listener.listen(BACKLOG)
    except OSError:
        listener.close()
        raise
    return listener


def make_server(app: Starlette, *, tls: ssl.SSLContext | None = None) -> HttpServer:
    """An HTTP server for `app`; `serve(sockets=[...])` runs it until `should_exit`."""
    state: ServerState = app.state.server
    most = connection_bound(state.config.max_connections)
    if most < state.config.max_connections:
        log.warning(line("few_descriptors", connections=most, wanted=state.config.max_connections))
    config = uvicorn.Config(
        app,
        http=HeadwayProtocol,
        ws="none",
        lifespan="off",
        log_config=None,
        log_level="warning",
        proxy_headers=False,
        access_log=False,
        server_header=False,
        backlog=BACKLOG,
        timeout_keep_alive=int(HEAD_SECONDS),
    )
    config.load()
    config.ssl = tls
    return HttpServer(config, Connections(most, state.config.max_connections_per_address))


def _template(given: str | None) -> str | None:
    """The source of the template that is given as a file's path, or as itself."""
    if given is None or "{" in given:
        return given
    try:
        return Path(given).read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise InvalidRequest(
            f"cannot read the chat template {given}: {error}", field="chat_template"
        ) from None


def _tls(config: ServerConfig) -> ssl.SSLContext | None:
    if config.ssl_certfile is None:
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        context.load_cert_chain(config.ssl_certfile, config.ssl_keyfile)
    except (OSError, ssl.SSLError) as error:
        raise InvalidRequest(
            f"cannot load the certificate {config.ssl_certfile}: {error}", field="ssl_certfile"
        ) from None
    return context


def _url(config: ServerConfig, listener: socket.socket) -> str:
    if config.uds:
        return f"unix:{config.uds}"
    host, port = listener.getsockname()[:2]
    host = f"[{host}]" if ":" in host else host
    return f"{'https' if config.ssl_certfile else 'http'}://{host}:{port}"
