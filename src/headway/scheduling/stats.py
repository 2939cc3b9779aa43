"""What the scheduler counts and what it says when there is nothing to do."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from headway.types.speculation import MOST_DRAFTS


@dataclass(frozen=True, slots=True, kw_only=True)
class Idle:
    """Nothing to compute; ask again at `until` (clock seconds), or after an arrival if None."""

    until: float | None = None


class IdleStats(NamedTuple):
    """What the last step left unused: slots of a static batch, and requests that wait."""

    idle_slots: int
    waiting: int


@dataclass(slots=True, kw_only=True)
class SchedulerStats:
    """State after the last step, and counters since the start."""

    step: int = 0
    running: int = 0
    waiting: int = 0
    free_blocks: int = 0
    cached_blocks: int = 0
    step_tokens: int = 0
    idle_slots: int = 0
    """Of the last step."""
    preemptions: int = 0
    gave_way: int = 0
    """Part of `preemptions`: those for the fair share of another caller."""
    relegated: int = 0
    """Requests that could not be on time, and waited for what others left."""
    shed: int = 0
    """Requests that were refused for the same reason."""
    computed_tokens: int = 0
    drafts: int = 0
    """Slices that had drafts."""
    draft_tokens: int = 0
    """Part of `computed_tokens`: drafts."""
    accepted_tokens: int = 0
    """Part of `draft_tokens`: those that were right."""
    accepted_per_position: tuple[int, ...] = (0,) * MOST_DRAFTS
    """How many of `drafts` were right so far: in their first draft, in their first two, and so on.
    Of more than so many drafts in one slice, the others are not in it."""
    declined: int = 0
    """Decodes that could have had drafts, in steps in which these did not pay."""
    prefix_queries: int = 0
    prefix_hits: int = 0
    """Prompt tokens looked up and found when requests were first scheduled."""
