"""How long the parts of an answer took, as far as whoever sends it can see.

For dialects whose answers tell that. Times are monotonic seconds.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field

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
            times = self.choices[delta.index] = ChoiceTimes(
                scheduled_at=now if delta.scheduled_at is None else delta.scheduled_at,
                first_at=now,
                last_at=now,
                prompt_tokens=len(self.request.prompt_of(delta.index).token_ids),
                cached_tokens=delta.cached_tokens or 0,
            )
        times.last_at = now
        times.generated_tokens += len(delta.token_ids)

    @property
    def total_seconds(self) -> float:
        """From when the request was ready for the engine to the last delta."""
        last = max((times.last_at for times in self.choices.values()), default=time.monotonic())
        return max(0.0, last - self.request.requests[0].arrival)
