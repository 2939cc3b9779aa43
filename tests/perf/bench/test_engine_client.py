"""The engine load client over the fake engine: lengths, times, faults, subscriptions."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from headway.config import EngineConfig
from headway.llm import AsyncLLM
from headway.perf.bench.engine_client import EngineLoadClient
from headway.perf.bench.run_load import run_load
from headway.perf.workload.workload import WorkloadRequest
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
