"""`headway generate [PROMPT]`: continue one prompt as it comes, or many in one batch.

With a prompt, its continuation is streamed to standard output. Without one, every line of standard
input is a prompt; all run together, and the continuations are printed in input order.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from dataclasses import fields

from headway.cli.flags import add_flags, collect
from headway.config import EngineConfig
from headway.errors import EngineError
from headway.types import SamplingParams

TEXT_ONLY = ("n", "logprobs", "prompt_logprobs", "logit_bias", "allowed_token_ids")


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("prompt", nargs="?", help="text to continue; standard input without it")
    parser.add_argument("--json", action="store_true", help="one JSON object per prompt")
    parser.add_argument("--model", default=None, help="known name, hub name, file or directory")
    add_flags(parser.add_argument_group("sampling"), SamplingParams, leave_out=TEXT_ONLY)
    # `--seed` is the request's here: with it, a run can be repeated exactly.
    engine = parser.add_argument_group("engine")
    add_flags(engine, EngineConfig, leave_out=("model", "seed"))


def run(arguments: argparse.Namespace) -> int:
    if arguments.max_tokens is None:
        arguments.max_tokens = 128
    params = collect(SamplingParams, arguments, environment={})
    config = collect(EngineConfig, arguments)
    if arguments.prompt is not None and not arguments.json:
        return asyncio.run(_stream(config, arguments.prompt, params))
    prompts = [arguments.prompt] if arguments.prompt is not None else _lines()
    return _batch(config, prompts, params, as_json=arguments.json)


async def _stream(config: EngineConfig, prompt: str, params: SamplingParams) -> int:
    from headway.llm import AsyncLLM

    llm = await AsyncLLM.start(config)
    try:
        async for delta in llm.stream(prompt, params):
            print(delta.text, end="", flush=True)
            if delta.error is not None:
                raise EngineError(delta.error)
        print()
    finally:
        await llm.close()
    return 0


def _batch(
    config: EngineConfig, prompts: list[str], params: SamplingParams, *, as_json: bool
) -> int:
    from headway.llm import LLM

    settings = {field.name: getattr(config, field.name) for field in fields(config)}
    failed = False
    with LLM(**settings) as llm:
        for output in llm.generate(prompts, params):
            completion = output.outputs[0]
            if completion.error is not None:
                failed = True
                print(f"headway: {completion.error}", file=sys.stderr)
            if as_json:
                record = {
                    "prompt": output.prompt,
                    "text": completion.text,
                    "finish_reason": completion.finish_reason,
                    "prompt_tokens": len(output.prompt_token_ids),
                    "completion_tokens": len(completion.token_ids),
                }
                print(json.dumps(record, ensure_ascii=False))
            else:
                print(completion.text)
    return 1 if failed else 0


def _lines() -> list[str]:
    return [line.rstrip("\n") for line in sys.stdin if line.strip()]
