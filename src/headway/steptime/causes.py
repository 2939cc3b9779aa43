"""Why the limiting factor has changed: which of the things that it follows from has moved.

A cause is what makes the old factor limit again when it alone is put back to its old value. Where
no single one does, it is what has moved most.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

from headway.steptime.explanation import LimitingFactor, Situation, limiting_factor_of
from headway.steptime.sizing import steady_step

_REFERENCE_WIDTH = 8.0
"""Step times of two models are compared on a step of so many answers."""


@dataclass(frozen=True, slots=True)
class Cause:
    """One thing that has moved, in words and numbers."""

    what: str
    before: float
    after: float
    undone: Situation
    """The situation as it is now, but for this."""

    @property
    def moved(self) -> float:
        """By how much; the same for twice as much and half as much."""
        if self.before == self.after:
            return 0.0
        if min(self.before, self.after) <= 0 or math.isinf(max(self.before, self.after)):
            return math.inf
        return abs(math.log(self.after / self.before))

    def __str__(self) -> str:
        return f"{self.what} went from {self.before:.3g} to {self.after:.3g}"


def cause_of(before: Situation, after: Situation, old: LimitingFactor) -> Cause | None:
    """Why `old`, which limited the batch before, does not now; None where nothing has moved."""
    moved = [cause for cause in _causes(before, after) if cause.moved]
    moved.sort(key=lambda cause: -cause.moved)
    for cause in moved:
        if limiting_factor_of(cause.undone) == old:
            return cause
    return moved[0] if moved else None


def _causes(before: Situation, after: Situation) -> Iterator[Cause]:
    old, new = before.traffic, after.traffic
    yield Cause(
        "requests a second",
        math.inf if old.rate is None else old.rate,
        math.inf if new.rate is None else new.rate,
        replace(after, traffic=replace(new, rate=old.rate)),
    )
    prompt = replace(new, prompt=old.prompt, cached=old.cached)
    yield Cause("prompt tokens", old.prompt, new.prompt, replace(after, traffic=prompt))
    output = replace(new, output=old.output)
    yield Cause("answer tokens", old.output, new.output, replace(after, traffic=output))
    context = replace(new, context=old.context, held=old.held)
    yield Cause("KV tokens held", old.held, new.held, replace(after, traffic=context))
    pace = replace(new, pace=old.pace)
    first, then = (min(each.pace.tpot, each.pace.itl) for each in (old, new))
    yield Cause("the pace asked for", first, then, replace(after, traffic=pace))
    step = steady_step(_REFERENCE_WIDTH, new, after.times.window)
    yield Cause(
        "the seconds of a step",
        before.times.bound(step),
        after.times.bound(step),
        replace(after, times=before.times),
    )
    yield Cause(
        "KV cache tokens",
        before.kv_tokens,
        after.kv_tokens,
        replace(after, kv_tokens=before.kv_tokens),
    )
