"""Several systems in turns, and what their rounds gave: medians with the range.

Each round begins with another system, so that a machine whose speed drifts favours none, and no
round begins that would not end in time.
"""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import TypeVar

System = TypeVar("System")


def in_turns(
    systems: Sequence[System], rounds: int, *, seconds: float = math.inf
) -> Iterator[tuple[int, System]]:
    """The number of the round and the system, for as many rounds as end within `seconds`.

    The first round is always whole; a later one is expected to take as long as the longest before.
    """
    began = time.perf_counter()
    longest = 0.0
    for number in range(rounds):
        start = time.perf_counter()
        if number and start - began + longest > seconds:
            return
        for system in rotated(systems, number):
            yield number, system
        longest = max(longest, time.perf_counter() - start)


def rotated(systems: Sequence[System], number: int) -> list[System]:
    """The order of a round: each time another system is the first."""
    turn = number % len(systems)
    return [*systems[turn:], *systems[:turn]]


def cell(values: Sequence[float]) -> str:
    """Median (least-most); empty without values."""
    if not values:
        return ""
    if len(values) == 1:
        return short(values[0])
    return f"{short(statistics.median(values))} ({short(min(values))}-{short(max(values))})"


def short(value: float) -> str:
    """Three digits or so."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def table(rows: Mapping[str, Sequence[Mapping[str, float]]]) -> str:
    """Markdown: a row for each system, a column for each figure that one of its rounds has."""
    names = list(dict.fromkeys(name for row in rows.values() for run in row for name in run))
    lines = ["| | " + " | ".join(names) + " | rounds |", "|" + "---|" * (len(names) + 2)]
    for system, runs in rows.items():
        cells = [cell([run[name] for run in runs if name in run]) for name in names]
        lines.append(f"| {system} | " + " | ".join(cells) + f" | {len(runs)} |")
    return "\n".join(lines)
