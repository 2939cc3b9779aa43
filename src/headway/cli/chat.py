"""`headway chat`: a conversation in the terminal.

Ctrl-C while the model speaks stops that answer and keeps what was said; at the prompt it leaves, as
does Ctrl-D. `/new` forgets the conversation.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import sys
from typing import TYPE_CHECKING, Any

from headway.cli.flags import add_flags, collect
from headway.cli.generate import TEXT_ONLY
from headway.config import EngineConfig
from headway.errors import HeadwayError, ModelError
from headway.types import SamplingParams

if TYPE_CHECKING:
    from headway.llm import AsyncLLM


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--model", default=None, help="known name, hub name, file or directory")
    parser.add_argument("--system", default=None, help="system message")
    add_flags(parser.add_argument_group("sampling"), SamplingParams, leave_out=TEXT_ONLY)
    engine = parser.add_argument_group("engine")
    add_flags(engine, EngineConfig, leave_out=("model", "seed"))


def run(arguments: argparse.Namespace) -> int:
    if arguments.max_tokens is None:
        arguments.max_tokens = 1024
    if arguments.temperature is None:
        arguments.temperature = 0.0
    params = collect(SamplingParams, arguments, environment={})
    config = collect(EngineConfig, arguments)
    with asyncio.Runner() as runner:
        return converse(runner, config, params, arguments.system)


def converse(
    runner: asyncio.Runner, config: EngineConfig, params: SamplingParams, system: str | None
) -> int:
    """Reads lines and answers them until the input ends."""
    from headway.llm import AsyncLLM

    with contextlib.suppress(ImportError):
        import readline  # noqa: F401  (its import gives `input` line editing)

    llm = runner.run(AsyncLLM.start(config))
    opening = [{"role": "system", "content": system}] if system else []
    messages: list[dict[str, Any]] = list(opening)
    try:
        template = llm.chat_template
        if template is None:
            raise ModelError(f"{config.model} has no chat template: use `headway generate`")
        while (line := _read_line()) is not None:
            if line == "/new":
                messages = list(opening)
            elif line:
                messages.append({"role": "user", "content": line})
                try:
                    prompt = template.render(messages)
                    answer = _answer(runner, llm, prompt, params)
                except HeadwayError as error:
                    messages.pop()
                    print(f"headway: {error.message}", file=sys.stderr)
                else:
                    messages.append({"role": "assistant", "content": answer})
    finally:
        runner.run(llm.close())
    return 0


def _read_line() -> str | None:
    try:
        return input("> " if sys.stdin.isatty() else "").strip()
    except (EOFError, KeyboardInterrupt):
        return None


def _answer(runner: asyncio.Runner, llm: AsyncLLM, prompt: str, params: SamplingParams) -> str:
    # The template writes the special tokens itself.
    ids = llm.tokenizer.encode(prompt, add_special_tokens=False)
    said: list[str] = []

    async def speak() -> None:
        async for delta in llm.stream(ids, params):
            said.append(delta.text)
            print(delta.text, end="", flush=True)

    with contextlib.suppress(KeyboardInterrupt):
        runner.run(speak())
    print()
    return "".join(said)
