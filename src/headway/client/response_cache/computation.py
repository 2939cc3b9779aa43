"""One computation of the engine, what it has given, and who listens to it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Literal, NamedTuple

from msgspec import structs

from headway.client.handle import Stream
from headway.client.journal import JournalEntry, remaining_request
from headway.client.response_cache.answer import Answer
from headway.client.response_cache.stream import CachedStream
from headway.types import Request, ServiceClass, TokenEvent, TokenLogprobs
from headway.types.objectives import Objective

JoinKey = tuple[bytes, int, ServiceClass, tuple[Objective, ...]]
"""The key of a request, and how urgent it is: only what agrees in all shares a computation."""


class Subscriber(NamedTuple):
    """A request that a computation answers."""

    request: Request
    stream: CachedStream


@dataclass(slots=True, eq=False, kw_only=True)
class Computation:
    """An answer in the making. Its first subscriber is the one that it is computed for."""

    join_key: JoinKey
    request: Request
    """As the engine has it: with an id of its own, since the one that it began with may leave."""
    state: Literal["looked up", "paused", "computed"] = "looked up"
    """Paused: its beginning was in memory, and the rest is computed once somebody has read that."""
    subscribers: dict[str, Subscriber] = field(default_factory=dict)
    """By the ids of their requests."""
    source: Stream | None = None
    """The engine's events."""
    sound: bool = True
    """False: it must not be kept."""
    tokens: list[int] = field(default_factory=list)
    logprobs: list[TokenLogprobs] = field(default_factory=list)
    prompt_logprobs: list[TokenLogprobs] = field(default_factory=list)
    scheduled_at: float | None = None
    finish: TokenEvent | None = None
    """Its last event."""

    @property
    def key(self) -> bytes:
        return self.join_key[0]

    def remaining(self, request: Request) -> Request:
        """What is left to compute of a request that got all that came so far."""
        had = len(self.prompt_logprobs)
        entry = JournalEntry(request=request, tokens=list(self.tokens), prompt_logprobs=had)
        return remaining_request(entry)

    def fill(self, answer: Answer) -> None:
        """Begin with a kept answer, and wait until somebody wants more."""
        self.state = "paused"
        self.tokens.extend(answer.tokens)
        self.logprobs.extend(answer.logprobs)
        self.prompt_logprobs.extend(answer.prompt_logprobs)

    def add(self, event: TokenEvent) -> None:
        """Take in an event of the engine."""
        self.tokens.extend(event.tokens)
        self.logprobs.extend(event.logprobs)
        self.prompt_logprobs.extend(event.prompt_logprobs)
        if self.scheduled_at is None:
            self.scheduled_at = event.scheduled_at
        if event.finish is not None:
            self.finish = event

    def answer(self) -> Answer | None:
        """What may be kept; None where there is nothing, or where it ended badly."""
        last = self.finish
        if not self.sound or not self.tokens or (last and last.finish not in ("stop", "length")):
            return None
        return Answer(
            tokens=tuple(self.tokens),
            logprobs=tuple(self.logprobs),
            prompt_logprobs=tuple(self.prompt_logprobs),
            finish=last.finish if last else None,  # type: ignore[arg-type] # checked above
            stop_reason=last.stop_reason if last else None,
        )

    def so_far(self, request: Request) -> TokenEvent | None:
        """All that came before this request joined, as an event of its own."""
        if not self.tokens and not self.prompt_logprobs and self.scheduled_at is None:
            return None
        begun = self.scheduled_at
        return TokenEvent(
            id=request.id,
            tokens=tuple(self.tokens),
            logprobs=tuple(self.logprobs),
            prompt_logprobs=tuple(self.prompt_logprobs),
            scheduled_at=request.arrival if begun is None else max(begun, request.arrival),
            cached=True,
        )

    def told(self, event: TokenEvent) -> Iterator[tuple[Subscriber, TokenEvent]]:
        """The engine's event as each subscriber hears it."""
        for number, subscriber in enumerate(self.subscribers.values()):
            request = subscriber.request
            if number == 0:
                yield subscriber, structs.replace(event, id=request.id)
                continue
            begun = event.scheduled_at
            yield (
                subscriber,
                structs.replace(
                    event,
                    id=request.id,
                    scheduled_at=None if begun is None else max(begun, request.arrival),
                    cached_tokens=0,
                    cached=True,
                    draft_tokens=0,
                    accepted_tokens=0,
                ),
            )


def replayed(answer: Answer, request: Request) -> TokenEvent:
    """A kept answer as the one event of a request, which was answered as it came."""
    return TokenEvent(
        id=request.id,
        tokens=answer.tokens,
        logprobs=answer.logprobs,
        prompt_logprobs=answer.prompt_logprobs,
        finish=answer.finish,
        stop_reason=answer.stop_reason,
        scheduled_at=request.arrival,
        cached=True,
    )


def computed(request: Request, number: int) -> Request:
    """The request under an id that no other one has, for the engine."""
    return replace(request, id=f"{request.id}-computation-{number}")
