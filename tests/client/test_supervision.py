"""What fails in the API process itself ends in another engine, or in an end that everybody sees."""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import resource
import signal
import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from headway.client import EngineClient
from headway.client.descriptors import RESERVED, DescriptorReserve
from headway.client.journal import RequestJournal
from headway.client.process import Shortage, spawn
from headway.client.restarts import MAX_DEATHS, RestartPolicy
from headway.client.watchdog import EngineWatch
from headway.errors import EngineError, Unavailable
from headway.types import Request, TokenEvent
from tests.client.fake_engine import COMMAND, expected_tokens
from tests.client.support import (
    PATIENCE,
    alive,
    collect,
    request,
    running_client,
    started,
    tokens,
    until,
)


@contextmanager
def no_descriptors() -> Iterator[None]:
    """All descriptors that this process may have are taken."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    highest = max(int(name) for name in os.listdir("/proc/self/fd"))  # noqa: PTH208
    resource.setrlimit(resource.RLIMIT_NOFILE, (highest + 40, hard))
    taken: list[int] = []
    try:
        with suppress(OSError):
            while True:
                taken.append(os.open(os.devnull, os.O_RDONLY))
        yield
    finally:
        for descriptor in taken:
            os.close(descriptor)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


async def is_served(client: EngineClient, name: str) -> None:
    asked = request(name)
    async with asyncio.timeout(PATIENCE):
        assert tokens(await collect(client.submit(asked))) == expected_tokens(asked)


def test_an_engine_comes_back_though_clients_have_all_descriptors(tmp_path: Path) -> None:
    async def main() -> None:
        async with running_client(tmp_path) as client:
            with no_descriptors():
                for deaths in range(1, 8):
                    os.kill(client.pid or 0, signal.SIGKILL)
                    await until(lambda: client.restarts == deaths and client.state == "ready")  # noqa: B023
                    await is_served(client, f"r{deaths}")

    asyncio.run(main())


def test_without_a_reserve_the_engine_comes_back_once_there_are_descriptors(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("headway.client.supervisor.SHORTAGE_WAIT", 0.01)
    attempts: list[bool] = []

    def counted(*given: Any) -> Any:
        try:
            return spawn(*given)
        except Shortage:
            attempts.append(True)
            raise

    monkeypatch.setattr("headway.client.process.spawn", counted)

    async def main() -> None:
        async with running_client(tmp_path) as client:
            client._supervisor._reserve.close()
            client._supervisor._reserve = DescriptorReserve(0)
            with no_descriptors():
                asked = request("a", max_tokens=400)
                stream = client.submit(asked)
                events = [await anext(stream)]
                os.kill(client.pid or 0, signal.SIGKILL)
                await until(lambda: client.state == "restarting")
                await until(lambda: len(attempts) > 4 * MAX_DEATHS)
                assert client.state == "restarting"
            events += await collect(stream)
            assert tokens(events) == expected_tokens(asked)
            assert (client.restarts, len(started(tmp_path))) == (1, 2)

    asyncio.run(main())
    waits = [each for each in caplog.records if "waits until it is possible" in each.message]
    assert len(waits) == 1, "one line, however many attempts"


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EAGAIN])
def test_what_the_machine_lacks_is_a_shortage_and_leaks_nothing(
    monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise OSError(number, os.strerror(number))

    reserve = DescriptorReserve()
    before = len(os.listdir("/proc/self/fd"))  # noqa: PTH208
    monkeypatch.setattr("headway.client.process.subprocess.Popen", refuse)
    with pytest.raises(Shortage, match="cannot start the engine program"):
        spawn(COMMAND, reserve)
    monkeypatch.setattr(socket, "socketpair", refuse)
    with pytest.raises(Shortage):
        spawn(COMMAND, reserve)
    assert len(reserve) == RESERVED
    assert len(os.listdir("/proc/self/fd")) == before  # noqa: PTH208
    reserve.close()
    assert len(os.listdir("/proc/self/fd")) == before - RESERVED  # noqa: PTH208


def test_a_program_that_is_gone_is_no_shortage() -> None:
    reserve = DescriptorReserve(0)
    with pytest.raises(EngineError) as caught:
        spawn(["/no/such/program"], reserve)
    assert not isinstance(caught.value, Shortage)


def _broken(*_: Any, **__: Any) -> Any:
    raise ZeroDivisionError("on purpose")


@pytest.mark.parametrize(
    ("owner", "method"), [(RestartPolicy, "died"), (EngineWatch, "tick"), (RequestJournal, "clear")]
)
def test_a_supervisor_that_dies_says_so_and_ends_all(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    owner: type,
    method: str,
) -> None:
    async def main() -> None:
        async with running_client(tmp_path, step_seconds=0.001) as client:
            stream = client.submit(request("a", max_tokens=1_000_000))
            await anext(stream)
            pid = client.pid or 0
            monkeypatch.setattr(owner, method, _broken)
            if method == "clear":
                monkeypatch.setattr(RestartPolicy, "died", lambda *_, **__: None)
            os.kill(pid, signal.SIGKILL)
            await until(lambda: client.state == "failed")
            assert client.failure is not None
            with pytest.raises(Unavailable):
                client.submit(request("b"))
            if method != "clear":
                async with asyncio.timeout(PATIENCE):
                    *_, last = await collect(stream)
                assert last.finish == "error"
                assert "ZeroDivisionError" in (last.error or "")
            _, pending = await asyncio.wait(client._supervisor._tasks, timeout=PATIENCE / 4)
            assert not pending, "half a supervision goes on"
            await until(lambda: not any(alive(each) for each in started(tmp_path)))
            monkeypatch.undo()

    asyncio.run(main())
    assert "Traceback" in caplog.text
    assert "ZeroDivisionError: on purpose" in caplog.text


class _Once:
    """Raises when it is called for the first time, and then does what it stands for."""

    def __init__(self, method: Any) -> None:
        self.method = method
        self.raised = False

    def __get__(self, instance: Any, owner: Any) -> Any:
        def call(*given: Any) -> Any:
            if not self.raised:
                self.raised = True
                raise ZeroDivisionError("once")
            return self.method(instance, *given)

        return call


@pytest.mark.parametrize("method", ["take_queued", "record"])
def test_a_bug_on_the_way_costs_an_engine_and_no_request(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, method: str
) -> None:
    async def main() -> None:
        async with running_client(tmp_path, step_seconds=0.001) as client:
            first = request("first", max_tokens=300)
            stream = client.submit(first)
            await anext(stream)
            client.abort("unknown")
            once = _Once(getattr(RequestJournal, method))
            monkeypatch.setattr(RequestJournal, method, once)
            second = request("second", max_tokens=30)
            async with asyncio.timeout(PATIENCE):
                events = await collect(client.submit(second))
                assert tokens(events) == expected_tokens(second)
                await collect(stream)
            assert once.raised
            assert client.restarts == 1

    asyncio.run(main())
    assert "ZeroDivisionError: once" in caplog.text


def unsendable(name: str) -> Request:
    """A request whose seed no message can hold."""
    asked = request(name)
    return replace(asked, sampling=replace(asked.sampling, seed=2**70))


def test_a_request_that_cannot_be_sent_ends_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def main() -> None:
        async with running_client(tmp_path, step_seconds=0.001) as client:
            heard: list[str] = []
            client.subscribe(lambda events, *_: heard.extend(e.id for e in events if e.finish))
            good = [request(f"r{n}", (3, n), max_tokens=40) for n in range(3)]
            monkeypatch.setattr("headway.wire.MAX_MESSAGE", 2**16)
            large = request("large", [5] * 2**17)
            requests = [good[0], unsendable("odd"), good[1], large, good[2]]
            streams = [client.submit(each) for each in requests]
            finished = [asyncio.ensure_future(collect(stream)) for stream in streams]
            results = [await asyncio.wait_for(each, PATIENCE) for each in finished]
            for each, events in zip(requests, results, strict=True):
                if each in good:
                    assert tokens(events) == expected_tokens(each)
                    continue
                (event,) = events
                assert event.finish == "error"
                assert "cannot be sent to the engine" in (event.error or "")
            assert "a message holds 65536" in (results[3][0].error or "")
            assert client.restarts == 0
            assert client.live == 0
            assert sorted(heard) == sorted(each.id for each in requests)

    asyncio.run(main())


def test_results_that_cannot_be_sent_end_their_request_alone(tmp_path: Path) -> None:
    async def main() -> None:
        async with running_client(tmp_path, max_message=2**16, step_seconds=0.001) as client:
            good = [request(f"r{n}", (3, n), max_tokens=40) for n in range(3)]
            long = request("long", [5] * 20_000, max_tokens=40)
            long = replace(long, sampling=replace(long.sampling, prompt_logprobs=0))
            streams = [client.submit(each) for each in (*good, long)]
            results = await asyncio.wait_for(asyncio.gather(*map(collect, streams)), PATIENCE)
            ended: Sequence[TokenEvent] = results.pop()
            assert ended[-1].finish == "error"
            assert "results cannot be sent" in (ended[-1].error or "")
            for each, events in zip(good, results, strict=True):
                assert tokens(events) == expected_tokens(each)
            assert client.restarts == 0
            await until(lambda: client.stats.running == 0)

    asyncio.run(main())


def test_a_process_that_cannot_be_killed_is_left_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("headway.client.process.GRACE", 0.01)
    monkeypatch.setattr("headway.client.process.KILL_SECONDS", 0.01)

    async def main() -> None:
        async with running_client(tmp_path) as client:
            engine = client._supervisor.engine
            assert engine is not None
            pid = engine.process.pid
            monkeypatch.setattr(engine.process, "poll", lambda: None)
            monkeypatch.setattr(engine.process, "kill", lambda: None)
            engine.connection.close()
            await until(lambda: client.restarts == 1 and client.state == "ready")
            await is_served(client, "a")
            monkeypatch.undo()
            engine.process.kill()
            engine.process.wait(PATIENCE)
            assert not alive(pid)

    with caplog.at_level(logging.ERROR):
        asyncio.run(main())
    assert "cannot be killed" in caplog.text
