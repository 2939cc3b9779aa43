"""Why slots were idle and requests waited: a sentence about a run, from its bars and records.

A slot that was empty while requests waited is the first thing to say: for whom it waited is the
slot that was done last before anybody was let in. Where slots were taken at once, what is left to
explain is the longest wait in the queue. Slots and requests are named as the page names them.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from math import inf

from headway.perf.report.figures import shown
from headway.perf.report.run import Bar, Run

WORTH_SAYING = 0.02
"""Of a run's time, what a wait must last to be explained."""
ALL = 0.9
"""Share of the slots' time during a wait from which on all of them were taken."""
_BY_BATCH = ("static", "dynamic")
"""Policies that let nobody into a batch that has started."""
_SAME = 1e-5
"""Seconds by which times differ that are the same."""


@dataclass(frozen=True, slots=True)
class IdleWait:
    """A slot that was empty although requests waited."""

    slot: int
    gate: int
    """The slot that was done last before anybody was let in."""
    seconds: float
    waiting: int
    """Requests that waited at its end."""


@dataclass(frozen=True, slots=True)
class QueueWait:
    """A request that waited for a slot."""

    request: str
    slot: int
    begin: float
    seconds: float
    taken: float
    """Mean number of slots that were taken meanwhile."""


def request_name(request: str) -> str:
    """What a page calls a request: the load generator's ids without their common part."""
    return request.removeprefix("request-")


def why(run: Run) -> str:
    """What its idle slots and its queue were for; empty for a run without bars of slots.

    Names the longest wait of a slot for another, or else of a request for a slot, and preemptions.
    """
    if not run.bars or run.slots is None:
        return ""
    worth = WORTH_SAYING * max(bar.end for bar in run.bars)
    idle = idle_wait(run)
    if idle is not None and idle.seconds >= worth:
        text = _idle_text(idle, run)
    else:
        text = _queue_text(queue_wait(run), run.slots, worth)
    return " ".join(part for part in (text, _preempted_text(run.bars)) if part)


def idle_wait(run: Run) -> IdleWait | None:
    """The longest time that a slot was empty, though requests had come, for want of another's end.

    It ends with the last bar that ends before the next request is let in, into whatever slot.
    """
    begins = sorted(bar.begin for bar in run.bars)
    ends = sorted((bar.end, bar.slot) for bar in run.bars)
    first = _first_begins(run.bars)
    queue = sorted((first[r.id], r.sent) for r in run.records if r.id in first)
    earliest = _earliest_sent(queue)
    longest = (0.0, 0, 0, 0.0, 0)
    for bar in run.bars:
        place = bisect_left(begins, bar.end - _SAME)
        if place == len(begins):
            continue
        boarding = begins[place]
        done, gate = ends[bisect_right(ends, (boarding + _SAME, inf)) - 1]
        left = bisect_left(queue, (boarding - _SAME,))
        if left == len(queue) or gate == bar.slot:
            continue
        seconds = done - max(bar.end, earliest[left])
        longest = max(longest, (seconds, bar.slot, gate, done, left))
    seconds, slot, gate, done, left = longest
    if seconds <= 0:
        return None
    return IdleWait(slot, gate, seconds, sum(sent <= done for _, sent in queue[left:]))


def _first_begins(bars: Sequence[Bar]) -> dict[str, float]:
    first: dict[str, float] = {}
    for bar in bars:
        first[bar.request] = min(bar.begin, first.get(bar.request, bar.begin))
    return first


def _earliest_sent(queue: Sequence[tuple[float, float]]) -> list[float]:
    """Of the requests from each place on, when the first was sent; `queue` is by begin."""
    earliest = [sent for _, sent in queue]
    for place in range(len(earliest) - 2, -1, -1):
        earliest[place] = min(earliest[place], earliest[place + 1])
    return earliest


def queue_wait(run: Run) -> QueueWait | None:
    """The request that waited longest between being sent and its first bar."""
    sent = {record.id: record.sent for record in run.records}
    first: dict[str, Bar] = {}
    for bar in sorted(run.bars, key=lambda bar: bar.begin):
        first.setdefault(bar.request, bar)
    waits = [(bar.begin - sent[name], bar) for name, bar in first.items() if name in sent]
    if not waits:
        return None
    seconds, longest = max(waits, key=lambda wait: wait[0])
    if seconds <= 0:
        return None
    since = longest.begin - seconds
    taken = sum(max(0.0, min(b.end, longest.begin) - max(b.begin, since)) for b in run.bars)
    return QueueWait(longest.request, longest.slot, longest.begin, seconds, taken / seconds)


def _idle_text(wait: IdleWait, run: Run) -> str:
    policy = run.settings.get("policy")
    batch = policy in _BY_BATCH or policy is None
    because = (
        "its batch was not over before the longest answer"
        if batch
        else "no request was let in before it was done"
    )
    queue = "1 request" if wait.waiting == 1 else f"{wait.waiting} requests"
    return (
        f"Slot {wait.slot + 1} waited {shown(wait.seconds, 's')} for slot {wait.gate + 1}: "
        f"{because}, while {queue} queued."
    )


def _queue_text(wait: QueueWait | None, slots: int, worth: float) -> str:
    if wait is None:
        return ""
    if wait.seconds < worth:
        return f"No request waited longer than {shown(wait.seconds, 's')} for a slot."
    waited = f"Request {request_name(wait.request)} waited {shown(wait.seconds, 's')}"
    if wait.taken < ALL * slots:
        return (
            f"{waited} though only {wait.taken:.1f} of {slots} slots were taken: the policy or KV "
            "memory held it back."
        )
    if slots == 1:
        return f"{waited} for the one slot: those before it go one at a time."
    return f"{waited}: all {slots} slots were taken until slot {wait.slot + 1} was free."


def _preempted_text(bars: Sequence[Bar]) -> str:
    """The longest time between two bars of one request; empty where all ran in one piece."""
    ends: dict[str, float] = {}
    returns: list[tuple[float, float, str]] = []
    for bar in sorted(bars, key=lambda bar: bar.begin):
        if bar.request in ends:
            left = ends[bar.request]
            returns.append((bar.begin - left, left, bar.request))
        ends[bar.request] = bar.end
    if not returns:
        return ""
    seconds, left, request = max(returns)
    times = "1 preemption" if len(returns) == 1 else f"{len(returns)} preemptions"
    return (
        f"{times} for want of KV memory: request {request_name(request)} lost its slot at "
        f"{shown(left, 's')} and waited {shown(seconds, 's')} for another."
    )
