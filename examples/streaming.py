"""Two streams at once from the asynchronous engine; the tokens arrive interleaved."""

import asyncio

from headway import AsyncLLM, SamplingParams
from headway.config import EngineConfig


async def tell(llm: AsyncLLM, subject: str) -> str:
    prompt, params = f"A short story about {subject}:", SamplingParams(max_tokens=32, seed=1)
    parts = [delta.text async for delta in llm.stream(prompt, params)]
    return "".join(parts)


async def main() -> None:
    llm = await AsyncLLM.start(EngineConfig())
    try:
        for story in await asyncio.gather(tell(llm, "a cat"), tell(llm, "a train")):
            print(story, end="\n---\n")
    finally:
        await llm.close()


if __name__ == "__main__":
    asyncio.run(main())
