"""Token events in, text out: what `AsyncLLM.stream` returns.

Each continuation has a detokenizer and, where asked for, a matcher of stop strings. A stop string
ends its continuation here and aborts it in the engine, which knows no text. Results do not depend
on how tokens were grouped into events: with stop strings they are read one by one.
"""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator, Sequence
from typing import Protocol

from msgspec.structs import replace

from headway.client import Stream
from headway.errors import Overloaded
from headway.llm.outputs import Delta
from headway.llm.resolve import GenerationRequest
from headway.text import Detokenizer, StopPatterns, StopStrings, Tokenizer
from headway.types import TokenEvent
from headway.types.response_cache import CacheOutcome

PROMPT_TAIL = 16
"""Tokens of the prompt that may matter for how the first generated one reads."""


class DeltaDecoder:
    """Turns the token events of one continuation into deltas."""

    def __init__(
        self,
        index: int,
        request: GenerationRequest,
        tokenizer: Tokenizer,
        stop: StopPatterns,
    ) -> None:
        """`index` is the continuation's place in `request.requests`; all share `stop`."""
        params = request.params
        prompt = request.prompt_of(index)
        self._index = index
        self._params = params
        self._eos = frozenset(tokenizer.eos_token_ids).difference(params.stop_token_ids)
        self._detokenizer = Detokenizer(
            tokenizer, prompt.token_ids[-PROMPT_TAIL:], params.skip_special_tokens
        )
        self._stops = StopStrings(stop, params.include_stop_str_in_output) if params.stop else None
        self._count = 0
        self._started = False
        self._scheduled_at: float | None = None

    def decode(self, event: TokenEvent) -> Delta:
        """The event as text. With a matched stop string the delta is final whatever it said."""
        first, self._started = not self._started, True
        if event.scheduled_at is not None:
            self._scheduled_at = event.scheduled_at
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
            prompt_logprobs=event.prompt_logprobs,
            cached_tokens=event.cached_tokens if first else None,
            scheduled_at=self._scheduled_at if first or event.finish == "error" else None,
            draft_tokens=event.draft_tokens,
            accepted_tokens=min(event.accepted_tokens, used),
        )

    def _text(self, event: TokenEvent) -> tuple[str, int, str | None]:
        """New text, how many of the event's tokens it took, and the stop string that matched."""
        shown = event.tokens
        if event.finish == "stop" and not self._params.include_stop_str_in_output:
            # The end may be told by itself, and joined with tokens before it.
            shown = shown[:-1] if shown[-1:] == (event.stop_reason,) else shown
        if self._stops is None:
            text = self._detokenizer.push(shown)
            if event.finish is not None:
                text += self._detokenizer.flush()
            return text, len(event.tokens), None
        return self._text_until_stop(shown, event, self._stops)

    def _text_until_stop(
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


class DeltaStream(Protocol):
    """The deltas of a request, until every continuation has finished."""

    @property
    def request(self) -> GenerationRequest: ...

    @property
    def outcome(self) -> CacheOutcome | None:
        """How a response cache answers, of several continuations the worst, known from the first
        delta on; None where none was asked."""
        ...

    def cancel(self) -> None:
        """Abort what still runs, and say no more; harmless at any time."""
        ...

    def __aiter__(self) -> AsyncIterator[Delta]: ...

    async def __anext__(self) -> Delta: ...


class RequestStream:
    """An asynchronous iterator of `Delta`, until every continuation has finished.

    Whoever stops reading early calls `cancel()`; it is harmless at any other time. Reading raises
    `Overloaded` where the engine sheds a continuation; the others are cancelled, since what was
    asked can no longer be had.
    """

    def __init__(self, request: GenerationRequest, events: Stream, tokenizer: Tokenizer) -> None:
        self.request = request
        self.events = events
        """What `delta_of` makes deltas of; for who listens to them and does not await deltas."""
        stop = StopPatterns(request.params.stop)
        self._decoders = {
            each.id: DeltaDecoder(index, request, tokenizer, stop)
            for index, each in enumerate(request.requests)
        }

    @property
    def outcome(self) -> CacheOutcome | None:
        """See `DeltaStream.outcome`."""
        return self.events.outcome

    def cancel(self) -> None:
        """Abort what still runs; its blocks are free at once."""
        self.events.cancel()

    def __aiter__(self) -> RequestStream:
        return self

    async def __anext__(self) -> Delta:
        return self.delta_of(await anext(self.events))

    def delta_of(self, event: TokenEvent) -> Delta:
        """The next event as a delta; raises `Overloaded` for one that was shed."""
        if event.retry_after is not None:
            self.events.cancel()
            raise Overloaded(
                event.error or "the engine has too much to do; try again later",
                retry_after=event.retry_after,
            )
        delta = self._decoders[event.id].decode(event)
        if delta.finish_reason is not None and event.finish is None:
            self.events.enough(event.id)
        return delta


class CopiedStream:
    """The deltas of a request whose continuations are equal, since nothing is drawn.

    `stream` has those of each prompt's first continuation; every delta comes once for each. Drafts,
    which were computed once for all of them, are counted with the first.
    """

    def __init__(self, stream: RequestStream) -> None:
        self.request = stream.request
        self._stream = stream
        self._copies: deque[Delta] = deque()

    @property
    def outcome(self) -> CacheOutcome | None:
        """See `DeltaStream.outcome`."""
        return self._stream.outcome

    def cancel(self) -> None:
        """Abort what still runs; its blocks are free at once."""
        self._copies.clear()
        self._stream.cancel()

    def __aiter__(self) -> CopiedStream:
        return self

    async def __anext__(self) -> Delta:
        if not self._copies:
            delta = await anext(self._stream)
            self._copies.append(delta)
            self._copies.extend(
                replace(
                    delta,
                    index=delta.index + copy,
                    prompt_logprobs=(),
                    draft_tokens=0,
                    accepted_tokens=0,
                )
                for copy in range(1, self.request.params.n)
            )
        return self._copies.popleft()
