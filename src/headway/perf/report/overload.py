"""Whether requests came faster than they were answered, so that their queue only grew.

Latencies of such a run say how long it was rather than how fast the server is: twice as many
requests would have waited twice as long. A run whose requests all come at once, or that is too
short to tell, is not called overloaded.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import pairwise

from headway.perf.records.record import RequestRecord
from headway.perf.records.summary import percentile
from headway.perf.report.run import Run

PARTS = 5
"""Parts of the arrivals' time whose mean numbers in flight are compared; the first fills up."""
FEWEST = 40
"""Requests, of which fewer say nothing."""
GROWTH = 2.0
"""By this factor at least the last part has more in flight than the second."""
LEFT = 0.05
"""Share of all requests that is in flight, at least, when the last part is reached."""
ANSWERS = 5.0
"""Answers one after another that the arrivals' time must have room for, to say anything."""


def overload_warning(records: Sequence[RequestRecord]) -> str | None:
    """A sentence for the reader of the figures; None where the queue did not only grow."""
    means = _in_flight(records)
    if means is None:
        return None
    grew = all(later > earlier for earlier, later in pairwise(means[1:]))
    second, last = means[1], means[-1]
    if not grew or last < GROWTH * second or last < LEFT * len(records):
        return None
    return (
        f"overloaded: the queue only grew, from {second:.0f} requests in flight to {last:.0f}; "
        "latencies say how long the run was, so ask for fewer requests a second"
    )


def overloads(runs: Iterable[Run]) -> list[str]:
    """The warnings of all runs, with the runs that they are about."""
    found = ((run, overload_warning(run.records)) for run in runs)
    return [f"{run.group}, {run.system}: {warning}" for run, warning in found if warning]


def _in_flight(records: Sequence[RequestRecord]) -> list[float] | None:
    """The mean number of requests in flight in each part of the time in which they were sent.

    None for a run of which that says nothing.
    """
    spans = [(record.sent, record.sent + (record.latency or 0.0)) for record in records]
    spans.sort()
    if len(spans) < FEWEST:
        return None
    begin, window = spans[0][0], spans[-1][0] - spans[0][0]
    if window <= ANSWERS * _alone(records):
        return None
    width = window / PARTS
    means = []
    for part in range(PARTS):
        low, high = begin + part * width, begin + (part + 1) * width
        inside = (min(end, high) - max(sent, low) for sent, end in spans)
        means.append(sum(each for each in inside if each > 0) / width)
    return means


def _alone(records: Sequence[RequestRecord]) -> float:
    """About what an answer takes that waits for no other, in seconds; 0 without any answer.

    What follows its first token is hardly queueing; of what precedes it, the least is not.
    """
    answered = [(r.latency, r.latency if r.ttft is None else r.ttft) for r in records if r.latency]
    if not answered:
        return 0.0
    written = percentile([latency - first for latency, first in answered], 50)
    return written + min(first for _, first in answered)
