"""The promise of the request journal with the real engine and the real default model."""

from __future__ import annotations

import asyncio
import os
import signal
from dataclasses import replace

import pytest

from headway.config import EngineConfig
from headway.llm import AsyncLLM
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
    calling = replace(structured, structured_outputs=StructuredOutputsParams(grammar=grammar))
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
