"""The promise of the request journal with the real engine and the real default model."""

from __future__ import annotations

import asyncio
import os
import signal
from dataclasses import replace

import pytest

from headway.config import EngineConfig
from headway.llm import AsyncLLM, RequestOutput
from headway.message import TOOL_FORMATS, Tool, ToolUse, tool_grammar
from headway.types import SamplingParams, StructuredOutputsParams
from tests.client.support import until
from tests.llm.support import engine_client


@pytest.mark.model
def test_32_streams_outlive_the_engine_with_the_tokens_of_an_undisturbed_run() -> None:
    config = EngineConfig(dtype="float32", max_model_len=256, kv_cache_memory=256 * 2**20)
    params = SamplingParams(temperature=0.8, seed=3, max_tokens=12, ignore_eos=True)
    structured = SamplingParams(
        temperature=0.8,
        seed=3,
        max_tokens=12,
        structured_outputs=StructuredOutputsParams(json={"type": "object"}),
    )
    tool = Tool(name="f", parameters={"type": "object", "properties": {"a": {"type": "string"}}})
    grammar = tool_grammar(TOOL_FORMATS["hermes"], ToolUse(tools=(tool,), choice="required"))
    calling = replace(
        structured, max_tokens=48, structured_outputs=StructuredOutputsParams(grammar=grammar)
    )
    prompts = [f"Tell me a story about the number {number}." for number in range(32)]

    async def answer(llm: AsyncLLM, prompt: str) -> list[int]:
        # Of three answers one is JSON, and one calls a tool.
        number = int(prompt.rsplit(maxsplit=1)[-1].rstrip("."))
        asked = (structured, params, calling)[number % 3]
        return [token async for delta in llm.stream(prompt, asked) for token in delta.token_ids]

    async def main() -> None:
        async with await AsyncLLM.start(config) as llm:
            undisturbed = await asyncio.gather(*(answer(llm, prompt) for prompt in prompts))
            received: list[int] = []
            llm.client.subscribe(
                lambda events, stats, now: received.extend(
                    t for each in events for t in each.tokens
                )
            )
            again = asyncio.gather(*(answer(llm, prompt) for prompt in prompts))
            await until(lambda: len(received) >= 96)
            assert engine_client(llm).live == 32
            os.kill(engine_client(llm).pid or 0, signal.SIGKILL)
            assert await again == undisturbed
            assert llm.client.restarts == 1

    asyncio.run(main())


@pytest.mark.model
def test_beams_have_the_log_probabilities_that_the_model_gives_their_text() -> None:
    config = EngineConfig(dtype="float32", max_model_len=256, kv_cache_memory=64 * 2**20)
    beams = SamplingParams(use_beam_search=True, n=3, temperature=0.0, max_tokens=20, logprobs=0)
    greedy = SamplingParams(temperature=0.0, max_tokens=20, logprobs=0, ignore_eos=True)
    scoring = SamplingParams(max_tokens=1, prompt_logprobs=0)

    async def last(llm: AsyncLLM, prompt: str | list[int], params: SamplingParams) -> RequestOutput:
        return [each async for each in llm.generate(prompt, params)][-1]

    async def main() -> None:
        async with await AsyncLLM.start(config) as llm:
            found = await last(llm, "The three largest cities of France are", beams)
            again = await last(llm, "The three largest cities of France are", beams)
            assert [each.token_ids for each in again.outputs] == [
                each.token_ids for each in found.outputs
            ]
            totals = [each.cumulative_logprob or 0.0 for each in found.outputs]
            for output, total in zip(found.outputs, totals, strict=True):
                whole = await last(llm, [*found.prompt_token_ids, *output.token_ids], scoring)
                given = (whole.prompt_logprobs or [])[len(found.prompt_token_ids) :]
                values = [next(iter(each.values())).logprob for each in given if each]
                assert sum(values) == pytest.approx(total, abs=1e-3)
            plain = await last(llm, "The three largest cities of France are", greedy)
            assert totals[0] >= (plain.outputs[0].cumulative_logprob or 0.0) - 1e-3

    asyncio.run(main())
