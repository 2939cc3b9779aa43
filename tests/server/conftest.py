"""A real HTTP server on a loopback port, in a thread of its own, over the fake model."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from typing import TypeVar

import httpx
import openai
import pytest
import uvloop

from headway.client.response_cache import caching_engine, remote_answers
from headway.config import EngineConfig, ServerConfig
from headway.server.admission import ServerState
from headway.server.app import attach_engine, build_app, build_state
from headway.server.listener import HttpServer
from headway.server.run import listen, make_server
from tests.server.fakes import FakeLLM

T = TypeVar("T")
MODEL = "alphabet"


class Running:
    """A server that answers at `url`, with handles on its inside."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        llm: FakeLLM,
        state: ServerState,
        server: HttpServer,
        port: int,
    ) -> None:
        self.server = server
        self.loop = loop
        self.llm = llm
        self.engine = llm.engine
        self.state = state
        self.port = port
        self.url = f"http://127.0.0.1:{port}"

    def openai(self, **settings: object) -> openai.OpenAI:
        given: dict[str, object] = {"api_key": "none", "max_retries": 0} | settings
        return openai.OpenAI(base_url=self.url + "/v1", **given)  # type: ignore[arg-type]

    def http(self) -> httpx.Client:
        return httpx.Client(base_url=self.url, timeout=30)

    def call(self, function: Callable[[], T]) -> T:
        """Run a function on the server's event loop."""
        future: Future[T] = Future()

        def run() -> None:
            try:
                future.set_result(function())
            except BaseException as error:
                future.set_exception(error)

        self.loop.call_soon_threadsafe(run)
        return future.result(10)

    def hold(self) -> None:
        self.call(self.engine.hold)

    def go_on(self) -> None:
        self.call(self.engine.go_on)

    def until(self, condition: Callable[[], bool]) -> None:
        """Wait until the condition holds on the server's side."""
        deadline = time.monotonic() + 30
        while not self.call(condition):
            assert time.monotonic() < deadline, "the condition never came true"
            time.sleep(0.005)

    def until_idle(self) -> None:
        """Wait until nothing is in flight: one look, since a client that left may still be read."""
        state, engine = self.state, self.engine
        self.until(lambda: not (state.requests or state.continuations or engine.running))


class _Thread(threading.Thread):
    def __init__(self, config: ServerConfig, llm: FakeLLM, ready: bool) -> None:
        super().__init__(daemon=True)
        self._config = config
        self._llm = llm
        self._ready = ready
        self.up: Future[Running] = Future()
        self.server: HttpServer | None = None

    def run(self) -> None:
        uvloop.run(self._serve())

    async def _serve(self) -> None:
        llm = self._llm
        if self._config.response_cache:
            remote = remote_answers(self._config)
            cache = caching_engine(llm.engine, self._config, b"alphabet", remote)
            cache.trust()
            llm.client = cache
        state = build_state(self._config, model_name=MODEL)
        app = build_app(state)
        if self._ready:
            attach_engine(app, llm)
        listener = listen(self._config)
        self.server = make_server(app)
        port = listener.getsockname()[1]
        self.up.set_result(Running(asyncio.get_running_loop(), llm, state, self.server, port))
        await self.server.serve(sockets=[listener])
        await llm.close()


@contextmanager
def serving(
    *,
    template: bool = True,
    max_model_len: int = 1000,
    ready: bool = True,
    config: ServerConfig | None = None,
    engine: EngineConfig | None = None,
) -> Iterator[Running]:
    config = config or ServerConfig(port=0)
    llm = FakeLLM(
        template=template, max_model_len=max_model_len, config=engine, replicas=config.replicas
    )
    thread = _Thread(config, llm, ready)
    thread.start()
    running = thread.up.result(30)
    try:
        yield running
        running.go_on()
        running.until_idle()
    finally:
        running.go_on()
        assert thread.server is not None
        thread.server.should_exit = True
        thread.join(30)


@pytest.fixture(scope="module")
def shared() -> Iterator[Running]:
    """One server for the tests of a module that leave it as they found it."""
    with serving() as running:
        yield running


@pytest.fixture
def server(shared: Running) -> Iterator[Running]:
    """Nothing is left behind by any test."""
    yield shared
    shared.until_idle()


@pytest.fixture(scope="module")
def shared_clients(shared: Running) -> Iterator[tuple[openai.OpenAI, httpx.Client]]:
    with shared.openai() as client, shared.http() as http:
        yield client, http


@pytest.fixture
def client(server: Running, shared_clients: tuple[openai.OpenAI, httpx.Client]) -> openai.OpenAI:
    return shared_clients[0]


@pytest.fixture
def http(server: Running, shared_clients: tuple[openai.OpenAI, httpx.Client]) -> httpx.Client:
    return shared_clients[1]
