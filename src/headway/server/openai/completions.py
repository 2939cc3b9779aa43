"""`POST /v1/completions`: prompts in, continuations out, shaped as OpenAI's and vLLM's."""

from __future__ import annotations

import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import msgspec
from msgspec import UNSET, UnsetType
from starlette.requests import Request
from starlette.types import Send

from headway.errors import InvalidRequest
from headway.llm import AsyncLLM, ChoiceCollector, Delta, GenerationRequest
from headway.server.admission import ServerState
from headway.server.body import read_body
from headway.server.formatter import UsageCounter
from headway.server.openai.logprobs import (
    CompletionLogprobs,
    PromptLogprob,
    TextOffsets,
    completion_logprobs,
    prompt_logprobs,
    shown_alternatives,
    token_names,
)
from headway.server.openai.prompts import Prompts, answer_prompts
from headway.server.openai.sampling import completion_params
from headway.server.openai.schema import CompletionBody
from headway.server.openai.service import answered_tier
from headway.server.openai.sse import PLACE, EventEncoder, Pattern, Usage, usage_of
from headway.types import TokenLogprobs


class CompletionChoice(msgspec.Struct, kw_only=True):
    index: int
    text: str
    logprobs: CompletionLogprobs | None = None
    finish_reason: str | None = None
    stop_reason: int | str | None = None
    prompt_token_ids: Sequence[int] | None = None
    token_ids: Sequence[int] | None = None
    prompt_logprobs: list[dict[str, PromptLogprob] | None] | None = None


class CompletionChunkChoice(msgspec.Struct, kw_only=True):
    """In streams, what was not asked for is left out."""

    index: int
    text: str
    logprobs: CompletionLogprobs | None = None
    finish_reason: str | None = None
    stop_reason: int | str | None = None
    prompt_token_ids: Sequence[int] | UnsetType = UNSET
    token_ids: Sequence[int] | UnsetType = UNSET


class Completion(msgspec.Struct, kw_only=True):
    id: str
    object: str = "text_completion"
    created: int
    model: str
    choices: list[CompletionChoice]
    usage: Usage
    service_tier: str | None = None
    system_fingerprint: str | None = None


async def completions(request: Request, send: Send) -> None:
    """Continue prompts; see `headway.server.openai.prompts`."""
    state: ServerState = request.app.state.server
    body = await read_body(request, CompletionBody, max_bytes=state.config.max_body_bytes)
    params = completion_params(body, state.default_sampling.completions)
    given = split_prompts(body.prompt)
    check_prompts(body, given)
    special = body.add_special_tokens is not False
    await answer_prompts(
        request,
        send,
        body,
        Prompts(given=given, params=params, add_special_tokens=special),
        f"cmpl-{uuid.uuid4().hex}",
        lambda generation: CompletionFormatter(generation, body, state.llm, state.names[0]),
    )


def check_prompts(body: CompletionBody, prompts: Sequence[str | list[int]]) -> None:
    """Raises `InvalidRequest` for fields that these prompts, or a stream, cannot have."""
    if body.stream and body.echo and body.logprobs is not None:
        raise InvalidRequest("echo with logprobs is not available while streaming", field="echo")
    if body.add_special_tokens and not isinstance(prompts[0], str):
        raise InvalidRequest(
            "add_special_tokens needs a prompt of text: token ids are taken as they are",
            field="add_special_tokens",
        )


def split_prompts(prompt: str | list[str | int | list[int]]) -> list[str | list[int]]:
    """The prompts of a body: texts or token ids, in order."""
    if isinstance(prompt, str):
        return [prompt]
    if not prompt:
        raise InvalidRequest("prompt is empty", field="prompt")
    kinds = set(map(type, prompt))
    if len(kinds) > 1:
        raise InvalidRequest(
            "prompt mixes texts, token ids and lists; give one kind", field="prompt"
        )
    if kinds == {int}:
        return [cast(list[int], prompt)]
    prompts = cast(list[str | list[int]], prompt)
    if not all(prompts):
        position = next(number for number, item in enumerate(prompts) if not item)
        raise InvalidRequest("an empty prompt", field=f"prompt[{position}]")
    return prompts


PROMPT_TAIL = 8
"""Tokens of a prompt that may hold the beginning of a character that the answer completes."""


@dataclass(slots=True)
class _StreamedChoice:
    """What a stream must remember of one choice."""

    offsets: TextOffsets
    begun: bool = False
    pattern: Pattern | None = None
    """Of the events that bring a piece of text and nothing else, once there was one."""


class CompletionFormatter:
    """Writes completions; see `headway.server.formatter.Formatter`."""

    def __init__(
        self, generation: GenerationRequest, body: CompletionBody, llm: AsyncLLM, model: str
    ) -> None:
        tokenizer = llm.tokenizer
        self.usage = UsageCounter(generation)
        self._generation = generation
        self._created = int(time.time())
        self._model = model
        self._tokenizer = tokenizer
        self._echo = bool(body.echo)
        self._top = shown_alternatives(body, body.logprobs)
        self._prompt_top = body.prompt_logprobs
        self._ids = bool(body.return_token_ids)
        self._plain = self._top is None and not self._ids
        self._name = token_names(tokenizer, as_ids=bool(body.return_tokens_as_token_ids))
        # Such a request scores its prompt; the one token that was generated is not shown.
        self._hides_text = body.max_tokens == 0
        self._echoes: dict[int, str] = {}
        """By the number of the prompt, as far as they were needed."""
        self._streamed = [
            _StreamedChoice(self._offsets(index)) for index in range(len(generation.requests))
        ]
        self._tier = answered_tier(body, generation)
        self._events = EventEncoder(
            self.usage,
            body.stream_options,
            id=generation.id,
            kind="text_completion",
            created=self._created,
            model=model,
            tier=self._tier,
            fingerprint=llm.fingerprint,
        )
        self._fingerprint = llm.fingerprint

    def events(self, delta: Delta) -> bytes:
        streamed = self._streamed[delta.index]
        first, streamed.begun = not streamed.begun, True
        text = "" if self._hides_text else delta.text
        if first and self._echo:
            text = self._echoed(delta.index) + text
        data = b""
        scored = self._top is not None and delta.logprobs
        if self._plain:
            data = self._text_event(delta.index, text) if text else b""
        elif text or scored or (self._ids and (first or delta.token_ids)):
            choice = CompletionChunkChoice(index=delta.index, text=text)
            if self._top is not None:
                choice.logprobs = completion_logprobs(
                    delta.logprobs,
                    name=self._name,
                    top=self._top,
                    offsets=streamed.offsets,
                    first=None,
                )
            if self._ids:
                choice.token_ids = delta.token_ids
                if first:
                    choice.prompt_token_ids = self._generation.prompt_of(delta.index).token_ids
            data = self._events.choice(choice)
        if delta.finish_reason is not None:
            last = CompletionChunkChoice(
                index=delta.index,
                text="",
                finish_reason=delta.finish_reason,
                stop_reason=delta.stop_reason,
            )
            data += self._events.choice(last)
        return data

    def end(self) -> bytes:
        return self._events.end()

    def error(self, error: Exception) -> bytes:
        return self._events.error(error)

    def body(self, choices: Sequence[ChoiceCollector]) -> bytes:
        return msgspec.json.encode(
            Completion(
                id=self._generation.id,
                created=self._created,
                model=self._model,
                choices=[self._choice(index, choices) for index in range(len(choices))],
                usage=usage_of(self.usage),
                service_tier=self._tier,
                system_fingerprint=self._fingerprint,
            )
        )

    def _text_event(self, index: int, text: str) -> bytes:
        streamed = self._streamed[index]
        if streamed.pattern is None:
            choice = CompletionChunkChoice(index=index, text=PLACE)
            streamed.pattern = self._events.pattern(choice)
        return self._events.text(streamed.pattern, text)

    def _offsets(self, index: int) -> TextOffsets:
        """Those of a choice, which begins with its prompt where that is echoed."""
        before = () if self._echo else self._generation.prompt_of(index).token_ids[-PROMPT_TAIL:]
        skips = self._generation.params.skip_special_tokens
        return TextOffsets(self._tokenizer, before, skip_special_tokens=skips)

    def _echoed(self, index: int) -> str:
        """What echo shows of a prompt: the text as it was given, or the tokens as text."""
        number = index // self._generation.params.n
        if number not in self._echoes:
            prompt = self._generation.prompts[number]
            text = prompt.text
            self._echoes[number] = (
                self._tokenizer.decode(prompt.token_ids) if text is None else text
            )
        return self._echoes[number]

    def _choice(self, index: int, choices: Sequence[ChoiceCollector]) -> CompletionChoice:
        choice = choices[index]
        tokens = self._generation.prompt_of(index).token_ids
        text = "" if self._hides_text else choice.text
        written = CompletionChoice(
            index=index,
            text=self._echoed(index) + text if self._echo else text,
            finish_reason=choice.finish_reason,
            stop_reason=choice.stop_reason,
        )
        # The engine computes the prompt's log probabilities once, with the first continuation.
        over_prompt = choices[index - index % self._generation.params.n].prompt_logprobs
        if self._top is not None:
            positions: list[TokenLogprobs] = [] if self._hides_text else choice.logprobs
            written.logprobs = completion_logprobs(
                over_prompt + positions if self._echo else positions,
                name=self._name,
                top=self._top,
                offsets=self._offsets(index),
                first=tokens[0] if self._echo else None,
            )
        if self._prompt_top is not None:
            written.prompt_logprobs = prompt_logprobs(
                over_prompt, self._tokenizer, top=self._prompt_top
            )
        if self._ids:
            written.prompt_token_ids = tokens
            written.token_ids = choice.token_ids
        return written
