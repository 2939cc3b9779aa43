"""What a page shows of a search: all that was tried as a table, and what it attained as plots."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate

from headway.perf.report.figures import shown, three
from headway.perf.report.plot import Plot, axis_of, linear, lines_of
from headway.perf.report.run import Report
from headway.perf.report.trial import Trial

Place = Callable[[Trial], float | None]
"""Where a trial stands on an axis; None where it has no place there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrialTable:
    """A row for each trial."""

    columns: tuple[str, ...]
    rows: tuple[tuple[bool, tuple[str, ...]], ...]
    """Whether it attains, and its cells."""


def trial_table(trials: Sequence[Trial]) -> TrialTable | None:
    """By replicas, rate and batch; columns that say nothing are left out. None without trials."""
    if not trials:
        return None
    objectives = tuple(dict.fromkeys(name for trial in trials for name in trial.measured))
    priced = any(trial.cost_per_million is not None for trial in trials)
    paced = any(trial.rate is not None for trial in trials)
    columns = ["replicas", "max_num_seqs", "max_num_batched_tokens"]
    columns += ["requests/s"] if paced else []
    columns += ["objectives", "attained", *objectives]
    columns += ["cost per M"] if priced else []
    rows = []
    for trial in sorted(trials, key=_order):
        cells = [
            f"{trial.replicas:,}",
            f"{trial.max_num_seqs:,}",
            f"{trial.max_num_batched_tokens:,}",
        ]
        cells += [three(trial.rate or 0.0)] if paced else []
        cells += ["held" if trial.attains else "missed", shown(trial.attainment, "share")]
        cells += [shown(trial.measured.get(name), "s") for name in objectives]
        cells += [_cost(trial)] if priced else []
        rows.append((trial.attains, tuple(cells)))
    return TrialTable(columns=tuple(columns), rows=tuple(rows))


def _order(trial: Trial) -> tuple[float, ...]:
    batch = (trial.max_num_seqs, trial.max_num_batched_tokens)
    return (trial.replicas, trial.rate or 0.0, *batch)


def _cost(trial: Trial) -> str:
    cost = trial.cost_per_million
    return "-" if cost is None else f"{three(cost)} {trial.currency}"


def trial_plots(report: Report, tone: int) -> tuple[Plot, ...]:
    """What was attained over what was varied, and over the cost where it is known.

    Of several trials at one place, the best counts: a fleet is as good as with its best batch. Of
    those at several costs, so does a better one that costs less.
    """
    trials = report.trials
    varied: tuple[tuple[str, Place], ...] = (
        ("replicas", lambda trial: float(trial.replicas)),
        ("requests/s", lambda trial: trial.rate),
        ("max_num_seqs", lambda trial: float(trial.max_num_seqs)),
    )
    name, place = next(
        (each for each in varied if len(_best(trials, each[1])) > 1), ("", lambda _: None)
    )
    cost = f"cost of a million output tokens, {report.currency}"
    plots = (
        _attained(report, f"Attained over {name}", name, _best(trials, place), tone),
        _attained(report, "Attained over cost", cost, _affordable(trials), tone),
    )
    return tuple(plot for plot in plots if plot is not None)


def _best(trials: Iterable[Trial], place: Place) -> dict[float, float]:
    """The highest attainment at each place, from the lowest place on."""
    found: dict[float, float] = {}
    for trial in trials:
        at = place(trial)
        if at is not None:
            found[at] = max(trial.attainment, found.get(at, 0.0))
    return dict(sorted(found.items()))


def _affordable(trials: Iterable[Trial]) -> dict[float, float]:
    """The highest attainment at each cost or below it, from the lowest cost on."""
    best = _best(trials, lambda trial: trial.cost_per_million)
    return dict(zip(best, accumulate(best.values(), max), strict=True))


def _attained(
    report: Report, title: str, label: str, points: Mapping[float, float], tone: int
) -> Plot | None:
    """None where there are fewer than two places."""
    if len(points) < 2:
        return None
    x = axis_of(points, label=label, write=lambda value: f"{value:,.4g}")
    y = linear(1.0, label="requests that met all", write=lambda share: f"{100 * share:.0f} %")
    system = report.runs[0].system if report.runs else "tried"
    said = ", ".join(f"{three(at)}: {shown(share, 'share')}" for at, share in points.items())
    return Plot(
        title=title,
        note="Each dot is the best that was tried there.",
        text=f"Share of requests that met all objectives over {label}. {said}.",
        x=x,
        y=y,
        lines=lines_of({system: tuple(points.items())}, x, y, {system: tone}, dots=True),
    )
