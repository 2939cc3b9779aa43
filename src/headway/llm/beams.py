"""Beam search: the likeliest continuations, found by following several at once.

It runs above the engine. In every step each beam is a request for one token and for the likeliest
ones there, and begins with blocks that the prefix cache has from the step before. Of all beams with
one more token, those of the highest log probability go on (Graves, "Sequence transduction with
recurrent neural networks", 2012). What an end of sequence, or another stop token, follows is
complete. Nothing is drawn, so equal requests give equal answers.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field, replace

from headway.client import EngineHandle, Stream
from headway.errors import Overloaded
from headway.llm.outputs import Delta
from headway.llm.resolve import GenerationRequest
from headway.text import Detokenizer, Tokenizer
from headway.types import FinishReason, Request, TokenEvent, TokenLogprobs
from headway.types.response_cache import CacheOutcome

PROMPT_TAIL = 16
"""Tokens of the prompt that may matter for how the first generated one reads."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Beam:
    """One continuation: its tokens, and the sum of their log probabilities."""

    tokens: tuple[int, ...] = ()
    logprobs: tuple[TokenLogprobs, ...] = ()
    total: float = 0.0
    finish: FinishReason = "length"

    def extended(
        self, position: TokenLogprobs, rank: int, *, finish: FinishReason, shown: int
    ) -> Beam:
        """With the token of a rank, from 1, as the next one; `shown` alternatives are kept."""
        token, logprob = position.top[rank - 1]
        scored = replace(
            position, token=token, logprob=logprob, rank=rank, top=position.top[:shown]
        )
        return Beam(
            tokens=(*self.tokens, token),
            logprobs=(*self.logprobs, scored),
            total=self.total + logprob,
            finish=finish,
        )


@dataclass(slots=True, kw_only=True)
class BeamSearch:
    """The search after one prompt. `base` is what each of its requests is like."""

    base: Request
    width: int
    length_penalty: float
    beams: list[Beam] = field(default_factory=lambda: [Beam()])
    """Those that go on, the likeliest first."""
    complete: list[Beam] = field(default_factory=list)
    """At most `width`, the best first."""
    steps: int = 0

    def score(self, beam: Beam) -> float:
        """As vLLM has it: the length counts with the prompt, and without a token that ends it."""
        length = len(self.base.prompt) + len(beam.tokens) - (beam.finish == "stop")
        return self._per_token(beam.total, length)

    def requests(self) -> list[Request]:
        """One for each beam that goes on; none once the search is over."""
        if self.steps >= self.base.sampling.max_tokens or self._settled():
            return []
        sampling = replace(
            self.base.sampling,
            max_tokens=1,
            min_tokens=0,
            stop_token_ids=(),
            temperature=0.0,
            logprobs=max(2 * self.width, self.base.sampling.logprobs or 0),
        )
        return [
            replace(
                self.base,
                id=f"{self.base.id}-s{self.steps}-b{number}",
                prompt=self.base.prompt + beam.tokens,
                sampling=sampling,
            )
            for number, beam in enumerate(self.beams)
        ]

    def advance(self, positions: list[TokenLogprobs]) -> None:
        """Take in what may come after each beam."""
        self.steps += 1
        stops, shown = self.base.sampling.stop_token_ids, self.base.sampling.logprobs or 0
        found: list[tuple[float, Beam, TokenLogprobs, int]] = []
        for beam, position in zip(self.beams, positions, strict=True):
            for rank, (token, logprob) in enumerate(position.top[: 2 * self.width], start=1):
                if token in stops:
                    self.complete.append(beam.extended(position, rank, finish="stop", shown=shown))
                elif token >= 0:
                    found.append((beam.total + logprob, beam, position, rank))
        # Sorting is stable: of equals, those of the likelier beam and the higher rank go on. Only
        # these are made, since each holds all its tokens.
        found.sort(key=lambda each: -each[0])
        self.beams = [
            beam.extended(position, rank, finish="length", shown=shown)
            for _, beam, position, rank in found[: self.width]
        ]
        self.complete = sorted(self.complete, key=self.score, reverse=True)[: self.width]

    def best(self) -> list[Beam]:
        """The best beams, whether complete or not."""
        found = self.complete + self.beams
        return sorted(found, key=self.score, reverse=True)[: self.width]

    def _per_token(self, total: float, length: int) -> float:
        return total / float(length**self.length_penalty)

    def _settled(self) -> bool:
        """Whether no beam that goes on can become better than those that are complete."""
        if not self.beams:
            return True
        if len(self.complete) < self.width:
            return False
        # More tokens never raise the sum. The score is then best at one of both lengths.
        now = len(self.base.prompt) + len(self.beams[0].tokens)
        longest = len(self.base.prompt) + self.base.sampling.max_tokens
        total = self.beams[0].total
        reachable = max(self._per_token(total, length) for length in (now, longest))
        return self.score(self.complete[-1]) >= reachable


class BeamStream:
    """As `RequestStream`: the deltas of a request for beams, one for each when all are found.

    One without text comes first, once the search has begun.
    """

    def __init__(
        self, request: GenerationRequest, client: EngineHandle, tokenizer: Tokenizer
    ) -> None:
        self.request = request
        params = request.params
        self._client = client
        self._tokenizer = tokenizer
        self._searches = [
            BeamSearch(
                base=request.requests[number * params.n],
                width=params.n,
                length_penalty=params.length_penalty,
            )
            for number in range(len(request.prompts))
        ]
        self._events: Stream | None = None
        self._cancelled = False
        self._aborted = False
        self._deltas = self._search()

    @property
    def outcome(self) -> CacheOutcome | None:
        """None: its many small requests are not looked for in a cache."""
        return None

    def cancel(self) -> None:
        """Abort what still runs."""
        self._cancelled = True
        if self._events is not None:
            self._events.cancel()

    def abort(self) -> None:
        """End the search with what it has, as aborted."""
        self._aborted = True
        if self._events is not None:
            self._events.cancel()

    def __aiter__(self) -> BeamStream:
        return self

    async def __anext__(self) -> Delta:
        return await anext(self._deltas)

    async def _search(self) -> AsyncIterator[Delta]:
        begun = False
        while any(asked := [search.requests() for search in self._searches]):
            told = await self._step([request for some in asked for request in some])
            if self._cancelled:
                return
            if self._aborted:
                told["abort"] = TokenEvent(id=self.request.id, finish="abort")
            broken = next((each for each in told.values() if not each.logprobs), None)
            if broken is not None:
                for delta in self._without_an_end(broken):
                    yield delta
                return
            if not begun:
                begun = True
                for number, (first, *_) in enumerate(asked):
                    yield self._beginning(number, told[first.id])
            self._advance(asked, told)
        for number, search in enumerate(self._searches):
            for place, beam in enumerate(search.best()):
                yield self._whole(number, place, beam)

    def _advance(self, asked: list[list[Request]], told: dict[str, TokenEvent]) -> None:
        for search, requests in zip(self._searches, asked, strict=True):
            if requests:
                search.advance([told[each.id].logprobs[0] for each in requests])

    async def _step(self, requests: list[Request]) -> dict[str, TokenEvent]:
        """What the engine says of each; raises `Overloaded` where it sheds one."""
        events = self._events = self._client.submit(*requests)
        told: dict[str, TokenEvent] = {}
        try:
            async for event in events:
                if event.retry_after is not None:
                    raise Overloaded(
                        event.error or "the engine has too much to do; try again later",
                        retry_after=event.retry_after,
                    )
                told[event.id] = event
                if not event.logprobs:
                    break  # there is no search without it
        finally:
            events.cancel()
        return told

    def _beginning(self, number: int, event: TokenEvent) -> Delta:
        return Delta(
            index=number * self.request.params.n,
            cached_tokens=event.cached_tokens,
            scheduled_at=event.scheduled_at,
        )

    def _without_an_end(self, event: TokenEvent) -> Iterator[Delta]:
        """The end of all, where one step of one beam failed or was aborted."""
        for index in range(len(self.request.requests)):
            yield Delta(
                index=index,
                finish_reason=event.finish or "abort",
                error=event.error,
                scheduled_at=event.scheduled_at,
            )

    def _whole(self, number: int, place: int, beam: Beam) -> Delta:
        params = self.request.params
        prompt = self.request.prompts[number].token_ids
        shown = beam.tokens
        if beam.finish == "stop" and not params.include_stop_str_in_output:
            shown = shown[:-1]
        detokenizer = Detokenizer(
            self._tokenizer, prompt[-PROMPT_TAIL:], params.skip_special_tokens
        )
        reason = beam.tokens[-1] if beam.finish == "stop" else None
        return Delta(
            index=number * params.n + place,
            text=detokenizer.push(shown) + detokenizer.flush(),
            token_ids=beam.tokens,
            logprobs=beam.logprobs if params.logprobs is not None else (),
            finish_reason=beam.finish,
            stop_reason=reason if reason in params.stop_token_ids else None,
        )
