"""`headway generate [PROMPT]` and `headway chat`: a model in the terminal, without a server.

`generate` with a prompt streams its continuation to standard output. Without one, every line of
standard input is a prompt; all run together, and the continuations are printed in input order.

`chat` is a conversation. Ctrl-C during an answer stops the answer and keeps what was generated; at
the prompt it leaves, as does Ctrl-D. `/new` forgets the conversation.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import sys
from dataclasses import fields
from typing import Any

import headway
from headway.cli.flags import add_flags, collect
from headway.config import DEFAULT_MODEL, EngineConfig
from headway.errors import EngineError, HeadwayError, ModelError
from headway.types import SamplingParams

with contextlib.suppress(ImportError):
    import readline  # noqa: F401  (its import gives `input` line editing)

_GENERATE_DEFAULTS: dict[str, Any] = {"max_tokens": 128}
_CHAT_DEFAULTS: dict[str, Any] = {"max_tokens": 1024, "temperature": 0.0}
NO_FLAGS = (
    *("n", "logprobs", "prompt_logprobs"),
    *("logit_bias", "allowed_token_ids", "structured_outputs", "thinking_token_budget"),
)


def configure(parser: argparse.ArgumentParser) -> None:
    parser.set_defaults(run=run)
    parser.add_argument("prompt", nargs="?", help="text to continue; standard input without it")
    parser.add_argument("--json", action="store_true", help="one JSON object per prompt")
    _add_model_flag(parser)
    _add_sampling_flags(parser, _GENERATE_DEFAULTS)
    _add_engine_flags(parser)


def run(arguments: argparse.Namespace) -> int:
    _apply(_GENERATE_DEFAULTS, arguments)
    params = collect(SamplingParams, arguments, environment={})
    config = collect(EngineConfig, arguments)
    if arguments.prompt is not None and not arguments.json:
        return asyncio.run(_stream(config, arguments.prompt, params))
    prompts = [arguments.prompt] if arguments.prompt is not None else _lines()
    return _batch(config, prompts, params, as_json=arguments.json)


async def _stream(config: EngineConfig, prompt: str, params: SamplingParams) -> int:
    llm = await headway.AsyncLLM.start(config)
    try:
        encoded = await llm.encode(prompt)
        async for delta in llm.stream(encoded, params):
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
    settings = {field.name: getattr(config, field.name) for field in fields(config)}
    failed = False
    with headway.LLM(**settings) as llm:
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


def _add_model_flag(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--model",
        metavar="MODEL",
        help=f"known name, hub name, file or directory (default: {DEFAULT_MODEL})",
    )


def _add_sampling_flags(parser: argparse.ArgumentParser, defaults: dict[str, Any]) -> None:
    group = parser.add_argument_group("sampling")
    add_flags(group, SamplingParams, leave_out=NO_FLAGS, defaults=defaults)


def _add_engine_flags(parser: argparse.ArgumentParser) -> None:
    # `--seed` is the request's here: with it, a run can be repeated exactly. No request is of
    # another class than standard.
    leave_out = ("model", "seed", "slo_interactive", "slo_batch")
    add_flags(parser.add_argument_group("engine"), EngineConfig, leave_out=leave_out)


def _apply(defaults: dict[str, Any], arguments: argparse.Namespace) -> None:
    """Set what no flag gave to the command's own defaults."""
    for name, value in defaults.items():
        if getattr(arguments, name) is None:
            setattr(arguments, name, value)


def configure_chat(parser: argparse.ArgumentParser) -> None:
    parser.set_defaults(run=run_chat)
    _add_model_flag(parser)
    parser.add_argument("--system", default=None, help="system message")
    _add_sampling_flags(parser, _CHAT_DEFAULTS)
    _add_engine_flags(parser)


def run_chat(arguments: argparse.Namespace) -> int:
    _apply(_CHAT_DEFAULTS, arguments)
    params = collect(SamplingParams, arguments, environment={})
    config = collect(EngineConfig, arguments)
    with asyncio.Runner() as runner:
        return converse(runner, config, params, arguments.system)


def converse(
    runner: asyncio.Runner, config: EngineConfig, params: SamplingParams, system: str | None
) -> int:
    """Reads lines and answers them until the input ends."""
    llm = runner.run(headway.AsyncLLM.start(config))
    opening = [{"role": "system", "content": system}] if system else []
    messages: list[dict[str, Any]] = list(opening)
    try:
        if llm.chat_template is None:
            raise ModelError(f"{config.model} has no chat template: use `headway generate`")
        while (line := _read_line()) is not None:
            if line == "/new":
                messages = list(opening)
            elif line:
                messages.append({"role": "user", "content": line})
                try:
                    answer = _answer(runner, llm, messages, params)
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


def _answer(
    runner: asyncio.Runner,
    llm: headway.AsyncLLM,
    messages: list[dict[str, Any]],
    params: SamplingParams,
) -> str:
    said: list[str] = []

    async def speak() -> None:
        # The template writes the special tokens itself.
        text = await llm.render(messages)
        prompt = await llm.encode(text, add_special_tokens=False)
        async for delta in llm.stream(prompt, params):
            said.append(delta.text)
            print(delta.text, end="", flush=True)

    with contextlib.suppress(KeyboardInterrupt):
        runner.run(speak())
    print()
    return "".join(said)
