"""A request under way. Only the scheduler writes it; policies see it as a `SequenceView`.

There are no phases: a sequence has tokens, of which the first `computed` have their keys and values
stored, and what is left to do is the difference. Prefill, decode, chunks, prefix hits and recompute
after a preemption are all this one rule.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from headway.types import Request, TokenLogprobs

State = Literal["waiting", "running", "ended"]
MAX_PREEMPTIONS = 3


@dataclass(slots=True, kw_only=True, eq=False)
class Sequence:
    """See `new_sequence`. `blocks` only ever grows in place, or is replaced by a new list, so that
    a plan may hold it without a copy."""

    id: int
    request: Request
    tokens: list[int]
    """Prompt and generated tokens, as far as they are known."""
    full_length: int
    """Tokens, prompt included, at which it ends if nothing stops it before."""
    stop_ids: frozenset[int]
    salt: bytes | None
    """Whom it shares prefixes with; None where it shares with nobody and nothing is hashed."""
    state: State = "waiting"
    computed: int = 0
    blocks: list[int] = field(default_factory=list)
    hashes: list[bytes] = field(default_factory=list)
    held: bool = False
    entered: bool = False
    """The runner knows it."""
    active_step: int = -1
    """The last step in which it computed anything, or was meant to."""
    furthest: int = 0
    """Most tokens ever computed; what is computed below it is computed again."""
    preemptions: int = 0
    cached_tokens: int = 0
    scheduled_at: float | None = None
    announced: bool = False
    """Its first event is out."""
    prompt_logprobs: list[TokenLogprobs] = field(default_factory=list)

    @property
    def todo(self) -> int:
        return len(self.tokens) - self.computed

    @property
    def arrival(self) -> float:
        return self.request.arrival

    @property
    def priority(self) -> int:
        return self.request.priority

    @property
    def order(self) -> tuple[int, float, int]:
        """Place in every line: by priority, then arrival, then submission."""
        return (self.request.priority, self.request.arrival, self.id)

    @property
    def generated(self) -> int:
        return len(self.tokens) - len(self.request.prompt)

    @property
    def left(self) -> int:
        """Tokens it may still generate."""
        return self.full_length - len(self.tokens)

    @property
    def immune(self) -> bool:
        """Preempted so often that it must not happen again."""
        return self.preemptions >= MAX_PREEMPTIONS

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
    )
