"""Token events in, text out: what `AsyncLLM.stream` returns.

Each continuation has a detokenizer and, where asked for, a watch for stop strings. A stop string
ends its continuation here and aborts it in the engine, which knows no text. Results do not depend
on how tokens were grouped into events: with stop strings they are read one by one.

Deltas added up: from a stream's news to whole `RequestOutput`s with vLLM's fields.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from headway.client import Stream
from headway.llm.outputs import CompletionOutput, Delta, Logprob, RequestOutput
from headway.text import Detokenizer, StopStrings, Tokenizer
from headway.types import FinishReason, Request, SamplingParams, TokenEvent, TokenLogprobs

PROMPT_TAIL = 16
"""Tokens of the prompt that may matter for how the first generated one reads."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ResolvedRequest:
    """What was asked, in tokens: one engine request per continuation, all with the same prompt."""

    request_id: str
    prompt: str | None
    """The text, where text was given."""
    prompt_token_ids: tuple[int, ...]
    params: SamplingParams
    requests: tuple[Request, ...]


class Continuation:
    """The text of one continuation as it grows."""

    def __init__(self, index: int, resolved: ResolvedRequest, tokenizer: Tokenizer) -> None:
        params = resolved.params
        self._index = index
        self._params = params
        self._prompt = resolved.prompt_token_ids if index == 0 else None
        self._eos = frozenset(tokenizer.eos_token_ids).difference(params.stop_token_ids)
        self._detokenizer = Detokenizer(
            tokenizer, resolved.prompt_token_ids[-PROMPT_TAIL:], params.skip_special_tokens
        )
        self._stops = (
            StopStrings(tuple(params.stop), params.include_stop_str_in_output)
            if params.stop
            else None
        )
        self._count = 0
        self._started = False

    def read(self, event: TokenEvent) -> Delta:
        """The event as text. With a matched stop string the delta is final whatever it said."""
        first, self._started = not self._started, True
        text, used, matched = self._text(event)
        self._count += used
        return Delta(
            index=self._index,
            text=text,
            token_ids=event.tokens[:used],
            logprobs=event.logprobs[:used],
            finish_reason="stop" if matched is not None else event.finish,
            stop_reason=matched if matched is not None else self._stop_reason(event),
            error=event.error if matched is None else None,
            prompt_token_ids=self._prompt if first else None,
            prompt_logprobs=event.prompt_logprobs if self._index == 0 else (),
            cached_tokens=event.cached_tokens if first else None,
            scheduled_at=event.scheduled_at if first else None,
        )

    def _text(self, event: TokenEvent) -> tuple[str, int, str | None]:
        """New text, how many of the event's tokens it took, and the stop string that matched."""
        shown = event.tokens
        if event.finish == "stop" and not self._params.include_stop_str_in_output:
            shown = shown[:-1]
        if self._stops is None:
            text = self._detokenizer.push(shown)
            if event.finish is not None:
                text += self._detokenizer.flush()
            return text, len(event.tokens), None
        return self._watched_text(shown, event, self._stops)

    def _watched_text(
        self, shown: Sequence[int], event: TokenEvent, stops: StopStrings
    ) -> tuple[str, int, str | None]:
        text = ""
        for used, token in enumerate(shown, start=1):
            piece = self._detokenizer.push((token,))
            # As in vLLM, a stop string counts only once `min_tokens` are there.
            if self._count + used <= self._params.min_tokens:
                text += piece
                continue
            safe, matched = stops.push(piece)
            text += safe
            if matched is not None:
                return text, used, matched
        if event.finish is not None:
            safe, matched = stops.push(self._detokenizer.flush())
            text += safe if matched is not None else safe + stops.flush()
            return text, len(event.tokens), matched
        return text, len(event.tokens), None

    def _stop_reason(self, event: TokenEvent) -> int | None:
        return None if event.stop_reason in self._eos else event.stop_reason


class RequestStream:
    """An asynchronous iterator of `Delta`, until every continuation has finished.

    Whoever stops reading early calls `cancel()`; it is harmless at any other time.
    """

    def __init__(self, resolved: ResolvedRequest, stream: Stream, tokenizer: Tokenizer) -> None:
        self.resolved = resolved
        self._stream = stream
        self._continuations = {
            request.id: Continuation(index, resolved, tokenizer)
            for index, request in enumerate(resolved.requests)
        }

    @property
    def request_id(self) -> str:
        return self.resolved.request_id

    @property
    def prompt_token_ids(self) -> tuple[int, ...]:
        return self.resolved.prompt_token_ids

    def cancel(self) -> None:
        """Abort what still runs; its blocks are free at once."""
        self._stream.cancel()

    def __aiter__(self) -> RequestStream:
        return self

    async def __anext__(self) -> Delta:
        event = await anext(self._stream)
        delta = self._continuations[event.id].read(event)
        if delta.finish_reason is not None and event.finish is None:
            self._stream.cancel(event.id)
        return delta


@dataclass(slots=True, kw_only=True)
class _Growing:
    """One continuation so far."""

    texts: list[str] = field(default_factory=list)
    tokens: list[int] = field(default_factory=list)
    logprobs: list[dict[int, Logprob]] = field(default_factory=list)
    total_logprob: float = 0.0
    finish_reason: FinishReason | None = None
    stop_reason: int | str | None = None
    error: str | None = None


class Collector:
    """What one request has received. `add` every delta, take `output` at any time."""

    def __init__(self, resolved: ResolvedRequest, tokenizer: Tokenizer) -> None:
        self._resolved = resolved
        self._tokenizer = tokenizer
        self._growing = [_Growing() for _ in resolved.requests]
        self._prompt_logprobs: list[dict[int, Logprob] | None] = [None]
        self._cached: int | None = None

    @property
    def finished(self) -> bool:
        return all(each.finish_reason is not None for each in self._growing)

    def add(self, delta: Delta) -> None:
        """Take in news of a continuation."""
        growing = self._growing[delta.index]
        growing.texts.append(delta.text)
        growing.tokens.extend(delta.token_ids)
        growing.logprobs.extend(self._table(each) for each in delta.logprobs)
        growing.total_logprob += sum(each.logprob for each in delta.logprobs)
        self._prompt_logprobs.extend(self._table(each) for each in delta.prompt_logprobs)
        if delta.cached_tokens is not None and delta.index == 0:
            self._cached = delta.cached_tokens
        if delta.finish_reason is not None:
            growing.finish_reason = delta.finish_reason
            growing.stop_reason = delta.stop_reason
            growing.error = delta.error

    def output(self) -> RequestOutput:
        """Everything so far, in objects of its own."""
        resolved = self._resolved
        wants_prompt = resolved.params.prompt_logprobs is not None
        return RequestOutput(
            request_id=resolved.request_id,
            prompt=resolved.prompt,
            prompt_token_ids=list(resolved.prompt_token_ids),
            prompt_logprobs=list(self._prompt_logprobs) if wants_prompt else None,
            outputs=[
                _completion(index, growing, resolved.params)
                for index, growing in enumerate(self._growing)
            ],
            finished=self.finished,
            num_cached_tokens=self._cached,
        )

    def _table(self, position: TokenLogprobs) -> dict[int, Logprob]:
        """The chosen token first, then the likeliest; a token that is both stands once."""
        chosen = (position.token, position.logprob, position.rank)
        ranked = ((token, value, rank) for rank, (token, value) in enumerate(position.top, 1))
        table: dict[int, Logprob] = {}
        for token, value, rank in (chosen, *ranked):
            if token not in table:
                text = self._tokenizer.token_text(token)
                table[token] = Logprob(logprob=value, rank=rank, decoded_token=text)
        return table


def _completion(index: int, growing: _Growing, params: SamplingParams) -> CompletionOutput:
    scored = params.logprobs is not None
    if len(growing.texts) > 1:
        growing.texts = ["".join(growing.texts)]
    return CompletionOutput(
        index=index,
        text=growing.texts[0] if growing.texts else "",
        token_ids=list(growing.tokens),
        cumulative_logprob=growing.total_logprob if scored else None,
        logprobs=list(growing.logprobs) if scored else None,
        finish_reason=growing.finish_reason,
        stop_reason=growing.stop_reason,
        error=growing.error,
    )
