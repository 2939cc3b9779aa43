"""The line for a step's prefills: who can be on time, who cannot, and who is told so."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Set
from dataclasses import dataclass, field
from itertools import chain, islice
from typing import NamedTuple

from headway.scheduling.policy.base import SequenceView, View
from headway.scheduling.policy.pacing.deadlines import best_effort, first_token_due
from headway.scheduling.policy.pacing.overload import Job, flooding, left_out

LOOKED_AT = 256
"""Most waiting sequences of which is asked whether they can be on time."""
MOST_PARKED = 16
"""Most of best effort that are looked at in a step."""


class PrefillRate(NamedTuple):
    """How fast prompts are computed beside those that decode."""

    tokens: float
    """A second."""
    cycle: float
    """Seconds of a step at this rate."""


@dataclass(slots=True, kw_only=True)
class Line:
    """Sequences whose prompts are to be computed, in their order."""

    on_time: list[SequenceView] = field(default_factory=list)
    late: list[SequenceView] = field(default_factory=list)
    parked: list[SequenceView] = field(default_factory=list)
    """The first of best effort that wait."""
    relegate: list[int] = field(default_factory=list)
    shed: list[int] = field(default_factory=list)
    retry_after: float = 1.0
    """Seconds until those that are shed may find room."""


class LineUp:
    """Use: `sort`, once in a step.

    `begun` are those that run and have not computed their prompt; `rate` is asked for at most once,
    and only where anything depends on it.
    """

    def __init__(
        self,
        view: View,
        *,
        patience: float,
        shedding: bool,
        begun: Set[int],
        rate: Callable[[], PrefillRate],
    ) -> None:
        self._view = view
        self._patience = patience
        self._shedding = shedding
        self._begun = begun
        self._rate = rate
        self._line = Line()

    def sort(self, prefills: list[SequenceView]) -> Line:
        """Of prefills under way, `prefills`, and of those that wait: who can be on time."""
        line = self._line
        if not self._view.free_slots and not self._shedding:
            line.on_time = prefills  # nobody can be admitted, so nothing depends on it
            return line
        found = [*prefills, *self._waiting(LOOKED_AT - len(prefills))]
        line.on_time = self._who_is_on_time(found) if found else []
        gone = {seq.id for seq in line.on_time}.union(line.shed)
        line.late = [seq for seq in found if seq.id not in gone]
        return line

    def _waiting(self, most: int) -> list[SequenceView]:
        """The first of those that wait and have deadlines; the first others are parked."""
        parked = self._line.parked
        found: list[SequenceView] = []
        for seq in self._view.waiting:
            if best_effort(seq):
                parked.append(seq)
                if len(parked) >= MOST_PARKED:
                    break
            elif len(found) < most:
                found.append(seq)
            else:
                # Those of best effort come later, by `Paced.standing`, behind any number of others.
                later = islice(self._view.waiting_later((seq.priority, True)), MOST_PARKED)
                parked += [seq for seq in later if best_effort(seq)]
                break
        return found

    def _who_is_on_time(self, found: list[SequenceView]) -> list[SequenceView]:
        """Those that can be, as many as possible; the rest is relegated or shed."""
        jobs, kept = self._jobs(found)
        self._line.retry_after = max(1.0, sum([job.seconds for job in jobs]))
        kept.update([seq.id for job in jobs for seq in job.seqs])
        for job in left_out(jobs):
            kept.difference_update([seq.id for seq in job.seqs])
            first = job.seqs[0]
            if self._shedding and first.id not in self._begun and not first.answering:
                self._refuse(job.seqs)
        return [seq for seq in found if seq.id in kept]

    def _jobs(self, found: list[SequenceView]) -> tuple[list[Job], set[int]]:
        """What can be on time alone, and the ids of those that keep their places all the same; the
        hopeless are refused."""
        now, (rate, cycle) = self._view.now, self._rate()
        flood = flooding(chain(self._view.running, found))
        under_way = {seq.group for seq in found if seq.id in self._begun}
        jobs: list[Job] = []
        kept: set[int] = set()
        for together in self._requests(found):
            first = together[0]
            due = first_token_due(first, self._patience) - now
            begun = first.id in self._begun
            quiet = flood is not None and first.tenant != flood
            seconds = self._tokens_of(together, under_way) / rate
            if first.generated:
                # It was preempted, or its engine died: it has been answered in part.
                kept.add(first.id)
            elif due >= seconds:
                # The first token comes at the end of a step, half a step later on average.
                due = max(seconds, due - cycle / 2)
                jobs.append(Job(together, seconds, due, begun or quiet))
            elif quiet:
                kept.update([seq.id for seq in together])  # late, but by no fault of its own
            elif not begun:
                self._refuse(together)
        return jobs, kept

    def _requests(self, found: list[SequenceView]) -> Iterable[tuple[SequenceView, ...]]:
        """The line in parts that are on time together: what waits of one request, which is served
        or refused as a whole. It is what came of one caller at one time."""
        parts: dict[object, list[SequenceView]] = {}
        for seq in found:
            alone = not seq.caller or seq.id in self._begun or seq.generated
            key = seq.id if alone else (seq.tenant, seq.caller, seq.arrival)
            parts.setdefault(key, []).append(seq)
        return map(tuple, parts.values())

    def _tokens_of(self, request: tuple[SequenceView, ...], under_way: Set[str]) -> int:
        """Tokens that must be computed before each of them has its first one. Continuations of one
        prompt compute it once, and it is counted with the one that does so, of a group `under_way`.
        """
        if request[0].id in self._begun:
            return request[0].todo  # one that has begun is by itself
        if len(request) == 1 and not request[0].group:
            return self._view.uncached(request[0].id)
        prompts = {seq.group or seq.id: seq for seq in request}
        return sum(
            [
                1 if seq.group and seq.group in under_way else self._view.uncached(seq.id)
                for seq in prompts.values()
            ]
        )

    def _refuse(self, request: tuple[SequenceView, ...]) -> None:
        """Shed it or relegate it. Of one that has been answered in part, the rest is not shed."""
        shed = self._shedding and not request[0].answering
        (self._line.shed if shed else self._line.relegate).extend(seq.id for seq in request)
