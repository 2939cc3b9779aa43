"""Who can be on time: of prefills that wait in line, those to leave out so that most are in time.

It is the algorithm of Moore and Hodgson (1968), which leaves the fewest jobs late on one machine:
go through the jobs in the order of the line, and whenever one would end after it is due, leave out
the one that costs most of those taken so far. Here the worst of the lowest service class is left
out first.

That is hard on long prompts: the many short ones of somebody who floods would keep out the few long
ones of everybody else. So while one tenant has more than half of all that runs and waits, it is its
own requests that are left out, as far as that helps.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from heapq import heapify, heappop, heappush
from typing import NamedTuple

from headway.scheduling.policy.base import SequenceView
from headway.types import SERVICE_CLASSES

_FIRST = {name: -rank for rank, name in enumerate(SERVICE_CLASSES)}
"""The lower the class, the less."""


class Job(NamedTuple):
    """Prefills that wait, and are on time together or not at all: mostly one."""

    seqs: tuple[SequenceView, ...]
    """Of one service class; at least one."""
    seconds: float
    """What they take."""
    due: float
    """Seconds from now until they must be done."""
    spared: bool = False
    """Left out only where nobody else can be."""


def flooding(seqs: Iterable[SequenceView]) -> str | None:
    """The tenant that has more than half of these sequences, if others have some too."""
    counts = Counter([seq.tenant for seq in seqs])
    (tenant, most), *others = counts.most_common(2) or [("", 0)]
    return tenant if others and 2 * most > counts.total() else None


def left_out(jobs: Iterable[Job]) -> list[Job]:
    """Those that are late so that as many as possible of the others are not; in no order."""
    taken: list[tuple[bool, int, float, int, Job]] = []
    """Who is left out first comes first; a heap once anybody was."""
    found: list[Job] = []
    total = 0.0
    for number, job in enumerate(jobs):
        total += job.seconds
        entry = (job.spared, _FIRST[job.seqs[0].service_class], -job.seconds, number, job)
        if found:
            heappush(taken, entry)
        else:
            taken.append(entry)
        if total > job.due:
            if not found:
                heapify(taken)
            worst = heappop(taken)[-1]
            total -= worst.seconds
            found.append(worst)
    return found
