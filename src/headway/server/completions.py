"""`POST /v1/completions`: prompts in, continuations out, shaped as OpenAI's and vLLM's."""

from __future__ import annotations

import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass

import msgspec
from msgspec import UNSET, UnsetType
from starlette.requests import Request

from headway.errors import InvalidRequest
from headway.llm import Delta
from headway.server.answer import Answer
from headway.server.backend import Text
from headway.server.body import read_body
from headway.server.events import Events
from headway.server.house import House
from headway.server.job import Choice, Job, Usage
from headway.server.logprobs import (
    CompletionLogprobs,
    PromptLogprob,
    completion_logprobs,
    prompt_logprobs,
)
from headway.server.prompts import encode, split_prompts
from headway.server.sampling import completion_params
from headway.server.schema import CompletionBody
from headway.types import TokenLogprobs


class CompletionChoice(msgspec.Struct, kw_only=True):
    index: int
    text: str
    logprobs: CompletionLogprobs | None = None
    finish_reason: str | None = None
    stop_reason: int | str | None = None
    prompt_token_ids: Sequence[int] | UnsetType = UNSET
    token_ids: Sequence[int] | UnsetType = UNSET
    prompt_logprobs: list[dict[str, PromptLogprob] | None] | UnsetType = UNSET


class Completion(msgspec.Struct, kw_only=True):
    id: str
    object: str = "text_completion"
    created: int
    model: str
    choices: list[CompletionChoice]
    usage: Usage


async def completions(request: Request) -> Answer:
    house: House = request.app.state.house
    house.check_open()
    body = await read_body(request, CompletionBody, max_bytes=house.config.max_body_bytes)
    house.check_model(body.model)
    _check_combinations(body)
    backend = house.backend
    params = completion_params(body)
    prompts = split_prompts(body.prompt)
    house.check_count(len(prompts) * params.n)
    special = body.add_special_tokens is not False
    tokens = [
        await encode(
            backend, prompt, special=special, keep=body.truncate_prompt_tokens, field="prompt"
        )
        for prompt in prompts
    ]
    options = body.stream_options
    job = Job(
        id=f"cmpl-{uuid.uuid4().hex}",
        created=int(time.time()),
        prompts=tuple(tokens),
        params=params,
        priority=body.priority or 0,
        cache_salt=body.cache_salt or "",
        stream=bool(body.stream),
        include_usage=bool(options and options.include_usage),
        continuous_usage=bool(options and options.continuous_usage_stats),
        user=body.user,
    )
    echoed = _echoes(backend.tokenizer, prompts, tokens) if body.echo else None
    return Answer(
        house, job, CompletionWriter(job, body, backend.tokenizer, house.names[0], echoed)
    )


def _check_combinations(body: CompletionBody) -> None:
    if body.stream_options is not None and not body.stream:
        raise InvalidRequest("stream_options needs stream: true", field="stream_options")
    if body.stream and body.prompt_logprobs is not None:
        raise InvalidRequest(
            "prompt_logprobs is not available while streaming", field="prompt_logprobs"
        )
    if body.stream and body.echo and body.logprobs is not None:
        raise InvalidRequest("echo with logprobs is not available while streaming", field="echo")


def _echoes(text: Text, prompts: list[str | list[int]], tokens: list[list[int]]) -> list[str]:
    """What echo shows of each prompt: the text as it was given, or the tokens as text."""
    return [
        prompt if isinstance(prompt, str) else text.decode(ids)
        for prompt, ids in zip(prompts, tokens, strict=True)
    ]


@dataclass(slots=True)
class _Progress:
    """What a stream must remember of one choice."""

    begun: bool = False
    offset: int = 0
    """Characters so far, for `text_offset`."""


class CompletionWriter:
    """Writes completions; see `headway.server.answer.Writer`."""

    def __init__(
        self, job: Job, body: CompletionBody, text: Text, model: str, echoed: list[str] | None
    ) -> None:
        self._job = job
        self._text = text
        self._model = model
        self._echoed = echoed
        self._logprobs = body.logprobs
        self._prompt_logprobs = body.prompt_logprobs
        self._ids = bool(body.return_token_ids)
        self._silent = body.max_tokens == 0
        self._progress = [_Progress() for _ in range(job.continuations)]
        self._events = Events(
            id=job.id,
            kind="text_completion",
            created=job.created,
            model=model,
            counts=job.include_usage,
        )

    def whole(self, choices: list[Choice], usage: Usage) -> bytes:
        return msgspec.json.encode(
            Completion(
                id=self._job.id,
                created=self._job.created,
                model=self._model,
                choices=[self._choice(choice, choices) for choice in choices],
                usage=usage,
            )
        )

    def piece(self, number: int, delta: Delta, usage: Usage | None) -> bytes:
        progress = self._progress[number]
        first, progress.begun = not progress.begun, True
        text = "" if self._silent else delta.text
        if first and self._echoed is not None:
            text = self._echoed[self._prompt(number)] + text
        data = b""
        speaks = bool(text) or (self._ids and (first or bool(delta.token_ids)))
        if speaks or (self._logprobs is not None and delta.logprobs):
            choice = CompletionChoice(index=number, text=text)
            if self._logprobs is not None:
                choice.logprobs, progress.offset = completion_logprobs(
                    delta.logprobs,
                    self._text,
                    top=self._logprobs,
                    offset=progress.offset,
                    first=None,
                )
            if self._ids:
                choice.token_ids = delta.token_ids
                if first:
                    choice.prompt_token_ids = self._job.prompts[self._prompt(number)]
            data = self._events.choice(choice, usage)
        if delta.finish_reason is not None:
            end = CompletionChoice(
                index=number,
                text="",
                finish_reason=delta.finish_reason,
                stop_reason=delta.stop_reason,
            )
            data += self._events.choice(end, usage)
        return data

    def closing(self, usage: Usage) -> bytes:
        return self._events.closing(usage)

    def _prompt(self, number: int) -> int:
        return number // self._job.params.n

    def _choice(self, choice: Choice, choices: list[Choice]) -> CompletionChoice:
        prompt = self._prompt(choice.number)
        tokens = self._job.prompts[prompt]
        text = "" if self._silent else "".join(choice.text)
        written = CompletionChoice(
            index=choice.number,
            text=text if self._echoed is None else self._echoed[prompt] + text,
            finish_reason=choice.finish_reason,
            stop_reason=choice.stop_reason,
        )
        # The engine computes the prompt's log probabilities once, with the first continuation.
        over_prompt = choices[prompt * self._job.params.n].prompt_logprobs
        if self._logprobs is not None:
            positions: list[TokenLogprobs] = [] if self._silent else choice.logprobs
            if self._echoed is not None:
                positions = over_prompt + positions
            written.logprobs, _ = completion_logprobs(
                positions,
                self._text,
                top=self._logprobs,
                offset=0,
                first=tokens[0] if self._echoed is not None else None,
            )
        if self._prompt_logprobs is not None:
            written.prompt_logprobs = prompt_logprobs(
                over_prompt, self._text, top=self._prompt_logprobs
            )
        if self._ids:
            written.prompt_token_ids = tokens
            written.token_ids = choice.token_ids
        return written
