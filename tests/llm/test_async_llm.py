"""`AsyncLLM` over the fake engine: the whole way from text to text, without a model."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from headway.checkpoint import Prepared
from headway.client import Stream
from headway.config import EngineConfig
from headway.errors import HeadwayError, InvalidRequest, Overloaded
from headway.llm import AsyncLLM
from headway.types import Request, SamplingParams
from tests.client.fake_engine import COMMAND, NUM_BLOCKS, POISON, SHED, expected_tokens
from tests.client.support import alive, started, until
from tests.llm.support import engine_client, serve_fake, write_prepared


@asynccontextmanager
async def running_llm(
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    config: EngineConfig | None = None,
    **script: object,
) -> AsyncIterator[AsyncLLM]:
    serve_fake(monkeypatch, write_prepared(folder, **script))
    async with await AsyncLLM.start(config or EngineConfig(), command=COMMAND) as llm:
        yield llm
    assert not any(alive(pid) for pid in started(folder))


def test_generate_yields_everything_so_far(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        async with running_llm(tmp_path, monkeypatch) as llm:
            params = SamplingParams(max_tokens=9, seed=4)
            outputs = [each async for each in llm.generate("Hi", params, "mine")]
            (request,) = llm.resolve("Hi", params=params).requests
            last = outputs[-1]
            assert last.finished
            assert last.request_id == "mine"
            assert last.prompt == "Hi"
            assert last.prompt_token_ids == llm.tokenizer.encode("Hi")
            (answer,) = last.outputs
            assert answer.token_ids == expected_tokens(request)
            assert answer.text == llm.tokenizer.decode(answer.token_ids)
            assert answer.finish_reason == "length"
            assert all(answer.text.startswith(each.outputs[0].text) for each in outputs)
            assert llm.max_model_len == 2048

    asyncio.run(main())


def test_several_continuations_come_in_one_stream(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def main() -> None:
        async with running_llm(tmp_path, monkeypatch) as llm:
            params = SamplingParams(n=3, max_tokens=5, seed=4)
            stream = llm.stream("Hi", params)
            deltas = [delta async for delta in stream]
            for index, request in enumerate(stream.request.requests):
                own = [delta for delta in deltas if delta.index == index]
                assert [t for delta in own for t in delta.token_ids] == expected_tokens(request)
            first = [delta.index for delta in deltas if delta.cached_tokens is not None]
            assert sorted(first) == [0, 1, 2]

    asyncio.run(main())


def test_a_stop_string_frees_the_engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        async with running_llm(tmp_path, monkeypatch, step_seconds=0.001) as llm:
            free = SamplingParams(max_tokens=40, seed=4)
            whole = [each async for each in llm.generate("Hi", free)][-1].outputs[0].text
            params = SamplingParams(max_tokens=1500, seed=4, stop=(whole[10:13],))
            answer = [each async for each in llm.generate("Hi", params)][-1].outputs[0]
            assert answer.text == whole[: whole.index(whole[10:13])]
            assert (answer.finish_reason, answer.stop_reason) == ("stop", whole[10:13])
            await until(lambda: llm.client.stats.free_blocks == NUM_BLOCKS)

    asyncio.run(main())


def test_leaving_or_aborting_ends_the_request(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def main() -> None:
        async with running_llm(tmp_path, monkeypatch, step_seconds=0.001) as llm:
            params = SamplingParams(max_tokens=1500, n=2)
            stream = llm.stream("Hi", params, request_id="gone")
            await anext(stream)
            await llm.abort("gone")
            await llm.abort("never there")
            reasons = [delta.finish_reason async for delta in stream if delta.finish_reason]
            assert reasons == ["abort", "abort"]
            outputs = llm.generate("Hi", params)
            await anext(outputs)
            await outputs.aclose()  # type: ignore[attr-defined]
            await until(lambda: llm.client.stats.free_blocks == NUM_BLOCKS)
            assert engine_client(llm).live == 0

    asyncio.run(main())


def test_text_survives_the_death_of_the_engine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def main() -> None:
        async with running_llm(tmp_path, monkeypatch, step_seconds=0.001) as llm:
            params = SamplingParams(max_tokens=200, seed=8)
            stream = llm.stream("Hi", params)
            deltas = [await anext(stream)]
            os.kill(engine_client(llm).pid or 0, signal.SIGKILL)
            deltas += [delta async for delta in stream]
            expected = expected_tokens(stream.request.requests[0])
            assert "".join(delta.text for delta in deltas) == llm.tokenizer.decode(expected)
            assert llm.client.restarts == 1

    asyncio.run(main())


def test_the_engines_fault_is_told_with_the_text_so_far(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def main() -> None:
        async with running_llm(tmp_path, monkeypatch) as llm:
            output = [each async for each in llm.generate([POISON], SamplingParams())][-1]
            assert output.outputs[0].finish_reason == "error"
            assert "died repeatedly" in (output.outputs[0].error or "")

    asyncio.run(main())


def test_seeds_repeat_where_the_engine_has_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def draw(config: EngineConfig) -> list[int]:
        async with running_llm(tmp_path, monkeypatch, config) as llm:
            resolved = [llm.resolve("Hi", params=SamplingParams()) for _ in range(3)]
            assert len({each.id for each in resolved}) == 3
            return [each.requests[0].sampling.seed for each in resolved]

    fixed = asyncio.run(draw(EngineConfig(seed=3)))
    assert len(set(fixed)) == 3
    assert fixed == asyncio.run(draw(EngineConfig(seed=3)))
    assert fixed != asyncio.run(draw(EngineConfig()))


def test_the_engine_gets_the_settings_that_were_settled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def main() -> None:
        prepared = write_prepared(tmp_path)

        def settle(
            config: EngineConfig, *, progress: bool, **_: object
        ) -> tuple[EngineConfig, Prepared]:
            assert (config.dtype, progress) == ("auto", False)
            return replace(config, dtype="int8"), prepared

        monkeypatch.setattr("headway.llm.async_llm.ready_model", settle)
        llm = await AsyncLLM.start(EngineConfig(), command=COMMAND, progress=False)
        async with llm:
            assert llm.client.info.hardware.dtype == "int8"

    asyncio.run(main())


def test_a_failed_start_leaves_no_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        prepared = write_prepared(tmp_path)
        serve_fake(monkeypatch, prepared)
        (tmp_path / "tokenizer.json").write_text("{")
        with pytest.raises(HeadwayError, match=r"tokenizer\.json"):
            await AsyncLLM.start(EngineConfig(), command=COMMAND)
        assert not any(alive(pid) for pid in started(tmp_path))

    asyncio.run(main())


def test_long_texts_are_encoded_like_short_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def main() -> None:
        async with running_llm(tmp_path, monkeypatch) as llm:
            text = "abc " * 5000
            prompt = await llm.encode(text, truncate_to=9)
            assert list(prompt.token_ids) == llm.tokenizer.encode(text)[-9:]
            assert prompt.text == text
            with pytest.raises(InvalidRequest, match="at most 2047 fit"):
                await anext(llm.generate(text, SamplingParams()))

    asyncio.run(main())


def test_a_shed_request_is_overload_that_says_when_to_come_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def main() -> None:
        async with running_llm(tmp_path, monkeypatch) as llm:
            with pytest.raises(Overloaded, match="too much") as caught:
                await anext(llm.generate([5, SHED], SamplingParams()))
            assert caught.value.retry_after == 2.5
            # Of several continuations or prompts none goes on without the others.
            long = llm.resolve([5, 6], [5, SHED], params=SamplingParams(max_tokens=2000))
            stream = llm.run(long)
            with pytest.raises(Overloaded):
                async for _ in stream:
                    pass
            assert engine_client(llm).live == 0
            await until(lambda: llm.client.stats.free_blocks == NUM_BLOCKS)

    asyncio.run(main())


def test_objectives_reach_the_engine_and_those_of_the_settings_are_the_default(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def main() -> None:
        config = EngineConfig(slo="ttft_p99=1s,tpot_p99=50ms")
        async with running_llm(tmp_path, monkeypatch, config) as llm:
            sent: list[Request] = []
            submit = llm.client.submit

            def spied(*requests: Request) -> Stream:
                sent.extend(requests)
                return submit(*requests)

            monkeypatch.setattr(llm.client, "submit", spied)
            params = SamplingParams(max_tokens=1)
            async for _ in llm.generate("Hi", params):
                pass
            async for _ in llm.generate(
                "Hi", params, objectives="ttft=2s", service_class="interactive"
            ):
                pass
            async for _ in llm.stream("Hi", params, service_class="batch"):
                pass
            assert [(each.service_class, ",".join(map(str, each.objectives))) for each in sent] == [
                ("standard", "ttft_p99=1s,tpot_p99=50ms"),
                ("interactive", "ttft=2s,tpot_p99=50ms"),
                ("batch", ""),
            ]
            with pytest.raises(InvalidRequest, match="objectives: 'soon' is no objective"):
                llm.stream("Hi", params, objectives="soon")

    asyncio.run(main())
