"""Who can be on time: of prefills that wait in line, those to leave out so that most are in time.

It is the algorithm of Moore and Hodgson (1968), which leaves the fewest jobs late on one machine:
go through the jobs in the order of the line, and whenever one would end after it is due, leave out
the one that costs most of those taken so far. Here the worst of the lowest service class is left
out first, and of the tenant that has most in line.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from heapq import heappop, heappush

from headway.scheduling.policy.base import SequenceView
from headway.types import SERVICE_CLASSES


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """A prefill that waits."""

    seq: SequenceView
    seconds: float
    """What it takes."""
    due: float
    """Seconds from now until it must be done."""
    begun: bool = False
    """Part of it is done, so it is left out only where nobody else can be."""


def left_out(jobs: Iterable[Job]) -> list[Job]:
    """Those that are late so that as many as possible of the others are not; in no order."""
    taken: list[tuple[tuple[float, ...], int, Job]] = []
    waiting: Counter[str] = Counter()
    found = []
    total = 0.0
    for number, job in enumerate(jobs):
        total += job.seconds
        waiting[job.seq.tenant] += 1
        rank = SERVICE_CLASSES.index(job.seq.service_class)
        heappush(taken, ((job.begun, -rank, -job.seconds), number, job))
        if total > job.due:
            _, _, worst = heappop(taken)
            total -= worst.seconds
            found.append(worst)
    return found
