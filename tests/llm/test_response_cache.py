"""The response cache under `AsyncLLM` and `LLM`, with a real engine process that may die."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from headway.client import EngineClient
from headway.client.response_cache import CachingEngine
from headway.config import EngineConfig
from headway.errors import InvalidRequest
from headway.llm import LLM, AsyncLLM, Delta, model_check
from headway.llm.stream import DeltaStream
from headway.types import SamplingParams
from headway.types.response_cache import ResponseCacheConfig
from tests.client.fake_engine import COMMAND, NUM_BLOCKS, expected_tokens
from tests.client.support import until
from tests.llm.support import serve_fake, write_prepared

GREEDY = SamplingParams(temperature=0, max_tokens=60)


@asynccontextmanager
async def caching_llm(
    folder: Path, monkeypatch: pytest.MonkeyPatch, **script: object
) -> AsyncIterator[tuple[AsyncLLM, CachingEngine]]:
    serve_fake(monkeypatch, write_prepared(folder, **script))
    cache = ResponseCacheConfig(response_cache=2**20)
    async with await AsyncLLM.start(EngineConfig(), command=COMMAND, response_cache=cache) as llm:
        assert isinstance(llm.client, CachingEngine)
        yield llm, llm.client


async def read(stream: DeltaStream) -> list[Delta]:
    return [delta async for delta in stream]


def tokens(deltas: list[Delta]) -> list[int]:
    return [token for delta in deltas for token in delta.token_ids]


def test_those_who_share_a_computation_survive_the_death_of_the_engine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def main() -> None:
        async with caching_llm(tmp_path, monkeypatch, step_seconds=0.001) as (llm, cache):
            first = llm.stream("Hi", GREEDY)
            (request,) = first.request.requests
            begun = [await anext(first)]
            joined = [llm.stream("Hi", GREEDY) for _ in range(3)]
            assert isinstance(llm._engine, EngineClient)
            os.kill(llm._engine.pid or 0, signal.SIGKILL)
            joined.append(llm.stream("Hi", GREEDY))  # while there is no engine
            joined[0].cancel()
            found = await asyncio.gather(read(first), *map(read, joined[1:]))
            # The engine's tokens depend on the seed, which the first one drew.
            whole = expected_tokens(request)
            assert tokens(begun + found[0]) == whole
            assert [tokens(each) for each in found[1:]] == [whole] * 3
            assert cache.restarts == 1
            assert llm.stream("Hi", GREEDY).outcome == "hit"
            await until(lambda: llm.client.stats.free_blocks == NUM_BLOCKS)

    asyncio.run(main())


def test_a_stop_string_makes_an_answer_and_what_it_cut_off_is_computed_when_wanted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def main() -> None:
        async with caching_llm(tmp_path, monkeypatch) as (llm, cache):
            seeded = SamplingParams(max_tokens=40, seed=4)
            text = "".join(each.text for each in await read(llm.stream("Hi", seeded)))
            cache.forget()
            stopped = SamplingParams(max_tokens=40, seed=4, stop=(text[10:13],))
            outcomes, texts = [], []
            for params in (stopped, stopped, seeded, seeded, stopped):
                stream = llm.stream("Hi", params)
                texts.append("".join(each.text for each in await read(stream)))
                outcomes.append(stream.outcome)
            cut = text[: text.index(text[10:13])]
            assert texts == [cut, cut, text, text, cut]
            assert outcomes == ["miss", "hit", "hit", "hit", "hit"]

    asyncio.run(main())


def test_only_what_repeats_is_looked_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        async with caching_llm(tmp_path, monkeypatch) as (llm, cache):
            drawn = SamplingParams(max_tokens=5)
            for _ in range(2):
                stream = llm.stream("Hi", drawn)
                await read(stream)
                assert stream.outcome is None
            anew = llm.run(llm.resolve("Hi", params=GREEDY), anew=True)
            await read(anew)
            assert (anew.outcome, len(cache.store), cache.counts.queries) == (None, 0, 0)

    asyncio.run(main())


def test_the_answers_of_a_damaged_model_are_forgotten(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(model_check, "CHECK_AFTER", 0.0)
    found: list[str] = []

    async def find_damage(prepared: object) -> list[str]:
        return found

    monkeypatch.setattr(model_check, "find_damage", find_damage)

    async def main(damage: list[str]) -> None:
        found[:] = damage
        gate = asyncio.Event()
        loop = asyncio.get_running_loop()

        def mend(config: EngineConfig, **given: object) -> object:
            if given.get("verify"):
                asyncio.run_coroutine_threadsafe(gate.wait(), loop).result()
            return config, prepared

        prepared = write_prepared(tmp_path)
        monkeypatch.setattr("headway.llm.async_llm.ready_model", mend)
        cached = ResponseCacheConfig(response_cache=2**20)
        config = EngineConfig()
        async with await AsyncLLM.start(config, command=COMMAND, response_cache=cached) as llm:
            assert isinstance(llm.client, CachingEngine)
            await read(llm.stream("Hi", GREEDY))
            gate.set()
            await until(lambda: llm._check is not None and llm._check.done())
            assert llm.stream("Hi", GREEDY).outcome == ("miss" if damage else "hit")
            assert llm.client._trusted

    asyncio.run(main([]))
    asyncio.run(main(["weights.safetensors"]))


def test_equal_prompts_of_a_script_are_computed_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = tmp_path / "requests.log"
    serve_fake(monkeypatch, write_prepared(tmp_path, requests_log=str(log)))
    with LLM(command=COMMAND, progress=False, response_cache=2**20) as llm:
        prompts = ["Hi", "Ho", "Hi", "Hi"]
        outputs = llm.generate(prompts, GREEDY, use_tqdm=False)
        texts = [each.outputs[0].text for each in outputs]
        assert texts[0] == texts[2] == texts[3] != texts[1]
        assert [each.outputs[0].text for each in llm.generate(prompts, GREEDY)] == texts
    assert len(log.read_bytes().splitlines()) == 2
    with pytest.raises(InvalidRequest, match="response_cache must be from 0"):
        LLM(command=COMMAND, response_cache=-1)
