"""What a report says first, in one sentence and some figures.

A comparison says who is fastest, and by how much: the group and the two systems are chosen from the
figures alone. It says so as plainly where the fastest is the one that everything is compared with,
and where the rounds of two systems overlap, that it is too close to call. A report with an answer
of its own says that instead: no system leads, and the figures are a prediction's errors, or what
was found.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from headway.perf.report.close import LEVEL, indistinct, too_close
from headway.perf.report.figures import (
    COST,
    IDLE,
    ITL,
    LATENCY,
    LIMIT,
    THROUGHPUT,
    TTFT,
    TTFT_P99,
    Figure,
    error,
    groups,
    three,
)
from headway.perf.report.run import Report, Run

_TIED = "\u00a0"
"""A space at which no line breaks."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One figure, from the first system to the leader."""

    label: str
    figure: str
    """The change, large."""
    detail: str
    """From what to what."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Headline:
    """The group, its leader, and what to say of them."""

    group: str
    leader: str
    """Empty where no system is to lead."""
    base: str
    pieces: tuple[tuple[str, str], ...]
    """The sentence in parts: words, and the system that they name or nothing."""
    changes: tuple[Change, ...]
    beside: tuple[tuple[str, str], ...] = ()
    """Where the first system is external: each of ours, and the leader's throughput over its."""
    close: str = ""
    """Which systems the rounds do not tell from the leader; empty without any."""

    @property
    def sentence(self) -> str:
        return "".join(words for words, _ in self.pieces)


def headline(report: Report) -> Headline | None:
    """None for a report in which no group has a throughput."""
    found = {name: runs for name, runs in groups(report).items() if leader_of(runs)}
    if not found:
        return None
    if report.answer:
        return _answered(report, *next(iter(found.items())))
    group = max(found, key=lambda name: _weight(found[name]))
    runs = found[group]
    leader, base = leader_of(runs), runs[0]
    assert leader is not None
    return Headline(
        group=group,
        leader=leader.system,
        base=base.system,
        pieces=_pieces(leader, runs),
        changes=tuple(_changes(leader, runs)),
        beside=tuple(_beside(leader, runs)) if base.kind == "external" else (),
        close=too_close(leader, runs),
    )


def first_words(report: Report) -> str:
    """What a terminal shows before the tables; ends with an empty line, or is empty."""
    found = headline(report)
    lines = [found.sentence, found.close] if found else [report.answer]
    return "".join(f"{line}\n" for line in lines if line) + ("\n" if any(lines) else "")


def _answered(report: Report, group: str, runs: Sequence[Run]) -> Headline:
    figures = (THROUGHPUT, LATENCY, TTFT, TTFT_P99, ITL)
    changes: list[Change] = []
    if report.prediction and len(runs) > 1:
        changes = [_error(figure, runs[0], runs[1]) for figure in figures]
    return Headline(
        group=group,
        leader="",
        base=runs[0].system,
        pieces=((report.answer, ""),),
        changes=tuple(change for change in changes if change.figure),
    )


def _error(figure: Figure, base: Run, predicted: Run) -> Change:
    """How far a prediction is from the group's first run; without a figure where one has none."""
    return Change(
        label=f"{figure.label} predicted",
        figure=error(figure.of(predicted), figure.of(base)),
        detail=f"{figure.written(base)} measured, {figure.written(predicted)} predicted",
    )


def leader_of(runs: Sequence[Run]) -> Run | None:
    """The fastest of our own systems, or of all where there is none of ours.

    Where requests come at a rate, all systems that keep up have the same throughput, and the one
    that answers soonest leads.
    """
    known = [run for run in runs if THROUGHPUT.of(run) is not None]
    own = [run for run in known if run.kind != "external"] or known
    best = max((THROUGHPUT.of(run) or 0.0 for run in own), default=0.0)
    level = [run for run in own if (THROUGHPUT.of(run) or 0.0) * LEVEL >= best]
    if len(level) > 1 and all(run.rate is not None and LATENCY.of(run) for run in level):
        return min(level, key=lambda run: LATENCY.of(run) or 0.0)
    return max(own, key=lambda run: THROUGHPUT.of(run) or 0.0, default=None)


def _weight(runs: Sequence[Run]) -> tuple[bool, bool, float]:
    """Several systems rather than one, all at once rather than at a rate, then the widest gain."""
    leader = leader_of(runs)
    base = THROUGHPUT.of(runs[0]) or 0.0
    gain = (THROUGHPUT.of(leader) or 0.0) / base if leader and base else 0.0
    return len(runs) > 1, runs[0].rate is None, gain


def _pieces(leader: Run, runs: Sequence[Run]) -> tuple[tuple[str, str], ...]:
    base = runs[0]
    mine, theirs = THROUGHPUT.of(leader) or 0.0, THROUGHPUT.of(base)
    subject = (leader.system[:1].upper() + leader.system[1:], leader.system)
    if len(runs) == 1:
        return subject, (f" gives {three(mine)} tokens a second", "")
    if leader is base or not theirs:
        return subject, (f" is the fastest of {len(runs)}: {three(mine)} tokens a second", "")
    object_ = (base.system, base.system)
    if indistinct(leader, base):
        return subject, (" and ", ""), object_, (" are too close to call", "")
    if mine / theirs < LEVEL:
        slower = _over(LATENCY, leader, base)
        if slower and slower * LEVEL < 1:
            return (
                subject,
                (f" has a {times(1 / slower)} shorter median latency than ", ""),
                object_,
            )
        return subject, (" is no faster than ", ""), object_
    return subject, (f" gives {times(mine / theirs)} the tokens per second of ", ""), object_


def _beside(leader: Run, runs: Sequence[Run]) -> Iterator[tuple[str, str]]:
    for run in runs:
        gain = _over(THROUGHPUT, leader, run)
        if gain is not None and run is not leader and run.kind == leader.kind:
            yield run.system, times(gain)


def times(gain: float) -> str:
    """Two digits that count, as in 1.4 times or 23 times."""
    return f"{gain:.0f}×" if gain >= 9.95 else f"{gain:.1f}×"  # noqa: RUF001 - multiplication sign


def _changes(leader: Run, runs: Sequence[Run]) -> list[Change]:
    base = runs[0]
    if leader is base or indistinct(leader, base):
        return []
    changes = []
    gain = _over(THROUGHPUT, leader, base)
    if gain is not None:
        changes.append(_change(THROUGHPUT, "the tokens per second", leader, base, times(gain)))
    slower = _over(LATENCY, leader, base)
    if slower:
        word, factor = ("shorter", 1 / slower) if slower <= 1 else ("longer", slower)
        label = f"{word} median latency"
        changes.append(_change(LATENCY, label, leader, base, times(factor)))
    worst = max(runs, key=lambda run: IDLE.of(run) or 0.0)
    for figure, label, other in (
        (IDLE, "idle slots", worst),
        (LIMIT, "of the machine's limit", base),
        (COST, "per million tokens", base),
    ):
        # Under a light load slots are idle for lack of requests: that tells nothing of a system.
        if figure.of(leader) is not None and (figure is not IDLE or leader.rate is None):
            changes.append(_change(figure, label, leader, other))
    return changes


def _over(figure: Figure, leader: Run, base: Run) -> float | None:
    after, before = figure.of(leader), figure.of(base)
    return after / before if after is not None and before else None


def _change(figure: Figure, label: str, leader: Run, other: Run, large: str = "") -> Change:
    """Shows the factor `large`, or else the leader's own figure."""
    before = figure.of(other)
    mine, theirs = figure.written(leader), figure.written(other)
    if large:
        detail = f"{theirs} → {mine}"
    else:
        detail = (
            ""
            if before is None or other is leader
            else f"{other.system}: {theirs.replace(' ', _TIED)}"
        )
    return Change(label=label, figure=large or mine, detail=detail)
