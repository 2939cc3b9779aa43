"""A request under way. Only the scheduler writes it; a policy sees it as a `SequenceView`.

There are no phases: a sequence has tokens, of which the first `computed` have their keys and values
stored, and what is left to do is the difference. Prefill, decode, chunks, prefix hits and recompute
after a preemption are all this one rule.

What a step means for one sequence: whether it has ended, and the event its request hears.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Literal

from headway.types import (
    FinishReason,
    PromptLogprobs,
    Request,
    ServiceClass,
    TokenEvent,
    TokenLogprobs,
)
from headway.types.objectives import NO_PACE, Pace, pace_of

State = Literal["waiting", "running", "ended"]
MAX_PREEMPTIONS = 3
LEAST_TURN = 64
"""Tokens that a sequence which gave way generates, once it runs again, before it may again."""


@dataclass(slots=True, kw_only=True, eq=False)
class Sequence:
    """See `new_sequence`. `blocks` only ever grows in place, or is replaced by a new list, so that
    a plan may hold it without a copy.

    What policies ask of hundreds of sequences in every step is kept rather than computed: `todo` by
    whoever writes `tokens` or `computed`, and what the request says of itself.
    """

    id: int
    request: Request
    tokens: list[int]
    """Prompt and generated tokens, as far as they are known."""
    full_length: int
    """Tokens, prompt included, at which it ends if nothing stops it before."""
    stop_ids: frozenset[int]
    salt: bytes | None
    """Whom it shares prefixes with; None where it shares with nobody and nothing is hashed."""
    pace: Pace = NO_PACE
    """What its objectives ask."""
    late: bool = False
    """It could not be on time, and waits for what others leave."""
    answering: bool = False
    """Of the same request, another continuation was admitted."""
    state: State = "waiting"
    standing: tuple[float, ...] = ()
    """See `Policy.standing`."""
    order: tuple[float, ...] = ()
    """Its place in both queues; see `Policy.order`."""
    computed: int = 0
    todo: int = field(init=False)
    """Tokens known but not computed."""
    blocks: list[int] = field(default_factory=list)
    hashes: list[bytes] = field(default_factory=list)
    deferred: bool = False
    loading: int = 0
    """Blocks after those in its table that are still to be loaded from another engine's cache."""
    entered: bool = False
    """The runner knows it."""
    active_step: int = -1
    """The last step in which it computed anything, or was meant to."""
    preemptions: int = 0
    gave_way: int = 0
    """How often it gave its slot to a caller that held fewer; that is no reason to spare it."""
    hits: int = 0
    """Tokens whose blocks it was given when it was admitted last."""
    known: int = 0
    """Tokens that it had then."""
    untold_preemptions: int = 0
    """Those of which no event has told yet."""
    likely_hits: int = 0
    """Of those that wait: tokens that they would have hit in the step `looked_up`."""
    looked_up: int = -(2**31)
    cached_tokens: int = 0
    scheduled_at: float | None = None
    due_base: float = math.inf
    """What `due` is reckoned from."""
    first_token_at: float | None = None
    """When its first token, or the first that this engine generated, was there."""
    prompt_logprobs: list[TokenLogprobs] = field(default_factory=list)
    may_draft: bool = False
    """Somebody proposes drafts for sequences like it."""
    drafted_in: int = -(2**31)
    """The last step in which it was given drafts; it may again grow by several tokens in one."""
    arrival: float = field(init=False)
    priority: int = field(init=False)
    tenant: str = field(init=False)
    caller: str = field(init=False)
    group: str = field(init=False)
    service_class: ServiceClass = field(init=False)

    def __post_init__(self) -> None:
        self.todo = len(self.tokens) - self.computed
        request = self.request
        self.arrival, self.priority = request.arrival, request.priority
        self.tenant, self.service_class = request.tenant, request.service_class
        self.caller, self.group = request.caller, request.group

    @property
    def generated(self) -> int:
        return len(self.tokens) - len(self.request.prompt)

    @property
    def due(self) -> float:
        """When its next token is due by its TPOT (clock seconds): infinite without one, and before
        the first token. It counts from the first one, unless that was late; time that was left
        until then is no reason to be slow later."""
        return self.due_base + self.pace.tpot * len(self.tokens)

    @property
    def left(self) -> int:
        """Tokens it may still generate."""
        return self.full_length - len(self.tokens)

    @property
    def preemptible(self) -> bool:
        """Whether it may be preempted: after so many times it must not happen again."""
        return self.preemptions < MAX_PREEMPTIONS

    @property
    def settled(self) -> bool:
        """Whether it may give way: since it did so last, it was worth its recompute."""
        made = len(self.tokens) - self.known
        return not self.gave_way or made >= max(LEAST_TURN, (self.known - self.hits) // 8)

    @property
    def wants_prompt_logprobs(self) -> bool:
        """Its prompt must be computed, not hit: nothing stores log probabilities."""
        return self.request.sampling.prompt_logprobs is not None and not self.generated


def salt_of(request: Request, *, prefix_caching: bool) -> bytes | None:
    """Whom a request shares prefixes with; without prefix caching, only others of its group."""
    if prefix_caching:
        return b"all:" + request.cache_salt.encode()
    return b"group:" + request.group.encode() if request.group else None


def new_sequence(id: int, request: Request, *, prefix_caching: bool) -> Sequence:  # noqa: A002
    """A waiting sequence, numbered `id`."""
    return Sequence(
        id=id,
        request=request,
        tokens=[*request.prompt, *request.generated],
        full_length=len(request.prompt) + request.sampling.max_tokens,
        stop_ids=frozenset(request.sampling.stop_token_ids),
        salt=salt_of(request, prefix_caching=prefix_caching),
        pace=pace_of(request.objectives),
    )


def ending(seq: Sequence) -> FinishReason | None:
    """Why the sequence ends after its last token, which was generated; None if it goes on."""
    if seq.tokens[-1] in seq.stop_ids:
        return "stop"
    if len(seq.tokens) >= seq.full_length:  # which the context holds: admission saw to it
        return "length"
    return None


def until_end(seq: Sequence, tokens: tuple[int, ...]) -> tuple[int, ...]:
    """The tokens that follow those of the sequence, up to the first that ends it."""
    room = seq.full_length - len(seq.tokens)
    for index, token in enumerate(tokens[:room]):
        if token in seq.stop_ids:
            return tokens[: index + 1]
    return tokens[:room]


def token_event(
    seq: Sequence,
    tokens: tuple[int, ...],
    logprobs: tuple[TokenLogprobs, ...],
    finish: FinishReason | None,
    now: float,
    *,
    drafts: int = 0,
) -> TokenEvent:
    """News of the last tokens of the sequence, which were there at `now`.

    With `drafts`, all tokens but the last are drafts that were right.
    """
    stop_reason = tokens[-1] if finish == "stop" else None
    preemptions, seq.untold_preemptions = seq.untold_preemptions, 0
    if seq.first_token_at is not None:
        return TokenEvent(
            id=seq.request.id,
            tokens=tokens,
            logprobs=logprobs,
            finish=finish,
            stop_reason=stop_reason,
            preemptions=preemptions,
            draft_tokens=drafts,
            accepted_tokens=len(tokens) - 1 if drafts else 0,
        )
    seq.first_token_at = now
    if seq.pace.tpot < math.inf:
        anchor = min(now, seq.arrival + seq.pace.ttft)
        seq.due_base = anchor - (len(seq.tokens) - 1) * seq.pace.tpot
    return TokenEvent(
        id=seq.request.id,
        tokens=tokens,
        logprobs=logprobs,
        prompt_logprobs=tuple(seq.prompt_logprobs),
        finish=finish,
        stop_reason=stop_reason,
        cached_tokens=seq.cached_tokens,
        scheduled_at=seq.scheduled_at,
        preemptions=preemptions,
        draft_tokens=drafts,
        accepted_tokens=len(tokens) - 1 if drafts else 0,
    )


def end_event(
    seq: Sequence,
    finish: FinishReason,
    *,
    error: str | None = None,
    stop_reason: int | None = None,
    retry_after: float | None = None,
) -> TokenEvent:
    """The end of a request without a further token."""
    first = seq.first_token_at is None
    return TokenEvent(
        id=seq.request.id,
        finish=finish,
        error=error,
        stop_reason=stop_reason,
        cached_tokens=seq.cached_tokens if first else 0,
        scheduled_at=seq.scheduled_at if first else None,
        preemptions=seq.untold_preemptions,
        retry_after=retry_after,
    )


def keep_prompt_logprobs(seq: Sequence, news: PromptLogprobs) -> None:
    """Collect them until the first token's event, each position once even if recomputed."""
    if seq.wants_prompt_logprobs:
        known = len(seq.prompt_logprobs) + 1
        seq.prompt_logprobs += news.logprobs[known - news.start :]
