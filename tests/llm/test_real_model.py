"""The promise of the request journal with the real engine and the real default model."""

from __future__ import annotations

import asyncio
import os
import signal

import pytest

from headway.config import EngineConfig
from headway.llm import AsyncLLM
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
    prompts = [f"Tell me a story about the number {number}." for number in range(32)]

    async def answer(llm: AsyncLLM, prompt: str) -> list[int]:
        # Every third answer is JSON.
        asked = structured if int(prompt.rsplit(maxsplit=1)[-1].rstrip(".")) % 3 == 0 else params
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
