"""How far every sequence of a batch is, for whoever watches it: lengths and times, and no content.

An engine tells it some times a second while somebody watches, and not otherwise. What one telling
names is bounded; the numbers beside it count all.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from headway.types.request import FinishReason, ServiceClass

WaitsFor = Literal["slot", "memory", "policy", "step"]
"""Why the next that waits does not run: all slots are taken, its blocks would not fit, the policy
has another use for the step, or one has just ended and the next step may take its place."""
MOST_RUNNING_TOLD = 256
MOST_WAITING_TOLD = 64
MOST_ENDED_TOLD = 128
"""Sequences that one telling names, of each kind."""


class SequenceNews(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """How far a sequence is. Lengths in tokens, times in seconds on the machine's monotonic clock.

    Nothing in it says what was asked or answered.
    """

    id: str
    """Its request's."""
    tenant: str
    prompt: int
    cached: int
    """Prompt tokens that came from the prefix cache when it was first admitted."""
    computed: int
    """Whose keys and values are stored; 0 while it waits."""
    generated: int
    max_tokens: int
    arrival: float
    scheduled_at: float | None
    """Its first step."""
    first_token_at: float | None
    preemptions: int
    deferred: bool
    """It runs, and waits for another one to compute the prefix that they share."""
    late: bool
    """It cannot be on time, and goes behind those that can."""
    service_class: ServiceClass
    ttft: float | None
    """What its objectives ask, where they do."""
    tpot: float | None


class SequenceEnd(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """The last news of a sequence."""

    last: SequenceNews
    at: float
    reason: FinishReason


class BatchNews(msgspec.Struct, frozen=True, tag=True, kw_only=True):
    """Up, while somebody watches: the batch after a step, and what ended since the last news."""

    at: float
    """On the machine's monotonic clock, in seconds."""
    slots: int
    """Sequences that a step can have."""
    num_running: int
    num_waiting: int
    running: list[SequenceNews]
    """The first of them, as many as are told."""
    waiting: list[SequenceNews]
    """The first of them, in the order in which they are next."""
    ended: list[SequenceEnd]
    waits_for: WaitsFor | None
    """None where nobody waits."""
    replica: int = 0
    """Whose batch this is, where there are several."""
