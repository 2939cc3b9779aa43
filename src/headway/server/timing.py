"""How long the parts of an answer took, as far as whoever sends it can see.

For dialects whose answers tell that, and for chats that ask for it. Times are monotonic seconds.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field

import msgspec
from msgspec import UNSET, UnsetType

from headway.llm import Delta
from headway.server.formatter import UsageCounter


@dataclass(slots=True, kw_only=True)
class ChoiceTimes:
    """One continuation so far."""

    scheduled_at: float
    """When the engine first computed something of it, or not later than its first token came."""
    first_at: float
    """When its first delta came, and with it a token."""
    last_at: float
    prompt_tokens: int
    cached_tokens: int
    """Of the prompt's; they were not computed."""
    generated_tokens: int = 0
    draft_tokens: int = 0
    """Computed ahead of their sampling ..."""
    accepted_tokens: int = 0
    """... and confirmed by it."""

    @property
    def prompt_seconds(self) -> float:
        """Until the first token: the prompt was computed, between others' tokens."""
        return max(0.0, self.first_at - self.scheduled_at)

    @property
    def generating_seconds(self) -> float:
        """From the first token to the last."""
        return self.last_at - self.first_at


@dataclass(slots=True)
class TimedUsage(UsageCounter):
    """Counts tokens, and notes when they came."""

    choices: dict[int, ChoiceTimes] = field(default_factory=dict)
    """By the number of the continuation, once something of it has come."""

    def add(self, delta: Delta) -> None:
        UsageCounter.add(self, delta)  # `super()` does not know a dataclass with slots
        now = time.monotonic()
        times = self.choices.get(delta.index)
        if times is None:
            began = now if delta.scheduled_at is None else delta.scheduled_at
            # A step's time may have been read just before the request came that it then took in.
            began = max(began, self.request.requests[0].arrival)
            times = self.choices[delta.index] = ChoiceTimes(
                scheduled_at=began,
                first_at=now,
                last_at=now,
                prompt_tokens=len(self.request.prompt_of(delta.index).token_ids),
                cached_tokens=delta.cached_tokens or 0,
            )
        times.last_at = now
        times.generated_tokens += len(delta.token_ids)
        times.draft_tokens += delta.draft_tokens
        times.accepted_tokens += delta.accepted_tokens

    @property
    def total_seconds(self) -> float:
        """From when the request was ready for the engine to the last delta."""
        last = max((times.last_at for times in self.choices.values()), default=time.monotonic())
        return max(0.0, last - self.request.requests[0].arrival)


class LlamaTimings(msgspec.Struct, frozen=True, kw_only=True):
    """Measured, in milliseconds."""

    cache_n: int
    """Tokens of the prompt that the prefix cache had."""
    prompt_n: int
    """Those that were computed."""
    prompt_ms: float
    prompt_per_token_ms: float
    prompt_per_second: float
    predicted_n: int
    predicted_ms: float
    predicted_per_token_ms: float
    predicted_per_second: float
    draft_n: int | UnsetType = UNSET
    """Tokens that were computed ahead of their sampling; absent where there were none."""
    draft_n_accepted: int | UnsetType = UNSET


def timings_of(times: ChoiceTimes) -> LlamaTimings:
    """As llama.cpp has them; what took no measurable time has no rate, which is 0."""
    computed = times.prompt_tokens - times.cached_tokens
    prompt, generating = times.prompt_seconds * 1e3, times.generating_seconds * 1e3
    return LlamaTimings(
        cache_n=times.cached_tokens,
        prompt_n=computed,
        prompt_ms=prompt,
        prompt_per_token_ms=_rate(prompt, computed),
        prompt_per_second=_rate(computed * 1e3, prompt),
        predicted_n=times.generated_tokens,
        predicted_ms=generating,
        predicted_per_token_ms=_rate(generating, times.generated_tokens),
        predicted_per_second=_rate(times.generated_tokens * 1e3, generating),
        draft_n=times.draft_tokens or UNSET,
        draft_n_accepted=times.accepted_tokens if times.draft_tokens else UNSET,
    )


def _rate(what: float, by: float) -> float:
    return what / by if by else 0.0
