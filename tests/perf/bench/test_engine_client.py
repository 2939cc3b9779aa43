"""The engine load client over the fake engine: lengths, times, faults, subscriptions."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

import pytest
from msgspec import structs

from headway.config import EngineConfig
from headway.errors import InvalidRequest, Overloaded
from headway.llm import AsyncLLM
from headway.perf.bench.engine_client import EngineLoadClient, _PendingResponse
from headway.perf.bench.run_load import run_load
from headway.perf.workload.workload import WorkloadRequest
from headway.types import Request, TokenEvent
from headway.types.objectives import parse_objectives
from headway.wire import EngineStats
from tests.client.fake_engine import COMMAND, POISON, SHED, STOPPER
from tests.client.support import until
from tests.llm.support import engine_client, serve_fake, write_prepared
from tests.perf.bench.fakes import request, workload


@asynccontextmanager
async def running(
    folder: Path, monkeypatch: pytest.MonkeyPatch, **script: object
) -> AsyncIterator[tuple[AsyncLLM, EngineLoadClient]]:
    serve_fake(monkeypatch, write_prepared(folder, **script))
    async with await AsyncLLM.start(EngineConfig(), command=COMMAND) as llm:
        with EngineLoadClient(llm) as client:
            yield llm, client


def prompt(each: WorkloadRequest) -> list[int]:
    return [10 + n for n in range(each.prompt_tokens)]


def test_answers_have_the_lengths_that_requests_ask_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def main() -> None:
        async with running(tmp_path, monkeypatch) as (llm, client):
            requests = [request(output=n) for n in (1, 2, 9, 30)]
            load_result = await run_load(client, workload(*requests), tokens=prompt)
            assert [record.output_tokens for record in load_result.records] == [1, 2, 9, 30]
            assert [len(record.itls) for record in load_result.records] == [0, 1, 8, 29]
            assert all(record.outcome == "ok" for record in load_result.records)
            for record in load_result.records:
                assert record.ttft is not None
                assert record.latency is not None
                assert 0 < record.ttft <= record.latency <= load_result.duration
            assert client.tokens_received == 42
            assert engine_client(llm).live == 0

    asyncio.run(main())


def test_the_pieces_of_one_step_have_one_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def main() -> None:
        async with running(tmp_path, monkeypatch, step_seconds=0.002) as (_, client):
            responses = await asyncio.gather(
                client.send(request(output=5), prompt(request()), request_id="a"),
                client.send(request(output=5), prompt(request()), request_id="b"),
            )
            shared = set(responses[0].times) & set(responses[1].times)
            assert len(shared) >= 4

    asyncio.run(main())


def test_drafts_are_counted_over_all_events() -> None:
    async def main() -> None:
        pending = _PendingResponse()
        pending.add(TokenEvent(id="a", tokens=(1,)), 1.0)
        pending.add(TokenEvent(id="a", tokens=(2, 3), draft_tokens=3, accepted_tokens=1), 2.0)
        last = TokenEvent(id="a", tokens=(4,), draft_tokens=2, finish="length")
        pending.add(last, 3.0)
        response = pending.response()
        assert (response.draft_tokens, response.accepted_tokens) == (5, 1)

    asyncio.run(main())


def test_an_early_end_is_an_answer_like_any_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def main() -> None:
        async with running(tmp_path, monkeypatch) as (_, client):
            response = await client.send(request(1, 3, cap=20), [STOPPER], request_id="a")
            assert (response.outcome, sum(response.counts)) == ("ok", 3)

    asyncio.run(main())


def test_a_shed_request_was_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        async with running(tmp_path, monkeypatch) as (_, client):
            response = await client.send(request(output=5), [SHED], request_id="a")
            assert (response.outcome, response.error) == ("refused", "too much")

    asyncio.run(main())


def test_faults_are_answers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        async with running(tmp_path, monkeypatch) as (llm, client):
            response = await client.send(request(1, 8), [POISON], request_id="a")
            assert response.outcome == "error"
            assert "died repeatedly" in response.error
            await llm.close()
            closed = await client.send(request(1, 8), [5], request_id="b")
            assert (closed.outcome, closed.error) == ("error", "the engine is closed")

    asyncio.run(main())


def test_an_engine_that_is_closed_ends_what_was_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def main() -> None:
        async with running(tmp_path, monkeypatch) as (llm, client):
            asked = asyncio.create_task(client.send(request(1, 1500), [5], request_id="a"))
            await until(lambda: client.tokens_received > 2)
            await llm.close()
            response = await asked
            assert (response.outcome, response.error) == ("error", "the request ended with abort")
            assert len(response.times) == len(response.counts) > 2

    asyncio.run(main())


def test_cancelling_frees_the_engine_and_closing_stops_listening(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def main() -> None:
        async with running(tmp_path, monkeypatch) as (llm, client):
            asked = asyncio.create_task(client.send(request(1, 1500), [5], request_id="a"))
            await until(lambda: client.tokens_received > 2)
            asked.cancel()
            with pytest.raises(asyncio.CancelledError):
                await asked
            assert engine_client(llm).live == 0
            again = await client.send(request(1, 4), [5], request_id="c")
            assert sum(again.counts) == 4
            other = EngineLoadClient(llm)
            other.close()
            await client.send(request(1, 4), [5], request_id="d")
            assert other.tokens_received == 0

    asyncio.run(main())


@pytest.mark.model
def test_real_answers_end_where_they_should_though_the_engine_is_not_told() -> None:
    async def main() -> None:
        config = EngineConfig(max_model_len=256, kv_cache_memory=64 * 2**20)
        async with await AsyncLLM.start(config) as llm:
            with EngineLoadClient(llm) as client:
                requests = [request(6, n, cap=60) for n in (1, 2, 17)]
                load_result = await run_load(
                    client, workload(*requests, request(6, 5), request(6, 400))
                )
                records = load_result.records
                assert [record.output_tokens for record in records] == [1, 2, 17, 5, 0]
                assert [record.outcome for record in records] == ["ok"] * 4 + ["error"]
                assert "exceed the context" in records[-1].error

    asyncio.run(main())


@dataclass
class ScriptedEngine:
    """An engine client that answers every request with one event, or an error."""

    event: TokenEvent | Exception
    asked: list[Request] = field(default_factory=list)
    listener: Any = None
    objectives: dict[str, object] = field(default_factory=dict)

    def subscribe(self, listener: Any) -> Any:
        self.listener = listener
        return lambda: None

    def submit(self, request: Request) -> ScriptedEngine:
        if isinstance(self.event, Exception):
            raise self.event
        self.asked.append(request)
        event = structs.replace(self.event, id=request.id)
        asyncio.get_running_loop().call_soon(self.listener, [event], EngineStats(), 0.0)
        return self

    def cancel(self) -> None:
        pass

    @property
    def client(self) -> ScriptedEngine:
        return self


SHED_EVENT = TokenEvent(id="", finish="error", error="overloaded", retry_after=2.5)


@pytest.mark.parametrize(
    ("event", "outcome"),
    [
        (SHED_EVENT, "refused"),
        (structs.replace(SHED_EVENT, retry_after=0.0), "refused"),
        (structs.replace(SHED_EVENT, retry_after=None), "error"),
        (TokenEvent(id="", tokens=(1,), finish="length"), "ok"),
        (Overloaded("full", retry_after=1.0), "refused"),
        (InvalidRequest("too long"), "error"),
    ],
)
def test_what_was_shed_is_refused_and_no_fault(event: TokenEvent | Exception, outcome: str) -> None:
    async def main() -> None:
        with EngineLoadClient(cast(AsyncLLM, ScriptedEngine(event))) as client:
            response = await client.send(request(), prompt(request()), request_id="a")
            assert response.outcome == outcome
            assert bool(response.error) is (outcome != "ok")

    asyncio.run(main())


def test_the_engine_is_told_whom_a_request_is_for() -> None:
    engine = ScriptedEngine(TokenEvent(id="", tokens=(1,), finish="length"))
    wanted = parse_objectives("ttft_p99=1s")
    asking = replace(request(), tenant="a", service_class="interactive", objectives=wanted)

    async def main() -> None:
        with EngineLoadClient(cast(AsyncLLM, engine)) as client:
            (record,) = (await run_load(client, workload(asking), tokens=prompt)).records
        assert (record.tenant, record.service_class) == ("a", "interactive")
        assert record.objectives == wanted

    asyncio.run(main())
    (asked,) = engine.asked
    assert (asked.tenant, asked.service_class, asked.objectives) == ("a", "interactive", wanted)
