"""Two streams at once from the asynchronous engine; their tokens are printed as they arrive."""

import asyncio

from headway import AsyncLLM, SamplingParams
from headway.config import EngineConfig


async def tell(llm: AsyncLLM, subject: str) -> None:
    prompt, params = f"A short story about {subject}:", SamplingParams(max_tokens=32, seed=1)
    async for delta in llm.stream(prompt, params):
        print(f"{subject}: {delta.text!r}", flush=True)


async def main() -> None:
    async with await AsyncLLM.start(EngineConfig()) as llm:
        await asyncio.gather(tell(llm, "a cat"), tell(llm, "a train"))


if __name__ == "__main__":
    asyncio.run(main())
