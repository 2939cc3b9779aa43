"""The data of a report: runs of one workload each, comparable within a group.

Runs of this engine, of external systems and of the simulator are the same thing here: plain data,
written as JSON and drawn as a page. `build_report` adds prices, `about_this_machine` what a reader
must know of the machine. Knows neither how runs were made nor how they are shown.
"""

from __future__ import annotations

import platform
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from typing import Literal, NamedTuple

from headway.codec import KEY
from headway.machine import cores, instruction_sets, processor, total_memory
from headway.perf.records.record import RequestRecord

Kind = Literal["engine", "external", "simulated"]
"""This engine, another system, or the simulator."""


class Bar(NamedTuple):
    """One request's time in one slot of the batch: seconds since the run's start."""

    slot: int
    begin: float
    first: float
    """When its first token came (or again computed after a preemption): before it, prefill."""
    end: float
    request: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One system on one workload."""

    system: str
    """Such as "continuous" or "transformers, padded"."""
    group: str
    """Runs of one group had the same requests; such as "cap 128" or "4 requests/s"."""
    kind: Kind = "engine"
    settings: Mapping[str, str | int | float] = field(default_factory=dict)
    length_cv: float | None = field(default=None, metadata={KEY: "spread"})
    """The group's coefficient of variation of output lengths: standard deviation over mean."""
    rate: float | None = None
    """Requests offered a second; None where all came at once."""
    summary: Mapping[str, float] = field(default_factory=dict)
    """As `headway.perf.records.summarize` gives it."""
    records: tuple[RequestRecord, ...] = ()
    slots: int | None = None
    """Slots of the batch."""
    bars: tuple[Bar, ...] = ()
    idle_share: float | None = None
    """Of all slots over the run's time, the share in which no request ran."""
    percent_of_limit: float | None = None
    """Time that the machine's limits allow at best, over the time that was taken; in percent."""
    cost_per_million: float | None = None
    """Price of a million output tokens, at the report's price per hour."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """Everything one page shows."""

    title: str
    about: Mapping[str, str]
    """Machine, commit, date, model and so on, for people."""
    runs: tuple[Run, ...]
    price_per_hour: float | None = None
    notes: tuple[str, ...] = ()
    """Sentences for people: what was left out, what to bear in mind."""


def build_report(
    *,
    title: str,
    runs: Iterable[Run],
    about: Mapping[str, str] | None = None,
    price_per_hour: float | None = None,
    notes: Sequence[str] = (),
) -> Report:
    """A report of these runs, in this order, with their cost where a price per hour is given.

    The first run of a group is what the others of the group are compared with.
    """
    priced = tuple(_priced(run, price_per_hour) for run in runs)
    return Report(
        title=title,
        about=dict(about or {}),
        runs=priced,
        price_per_hour=price_per_hour,
        notes=tuple(notes),
    )


def cost_per_million(price_per_hour: float, output_throughput: float) -> float | None:
    """Price of a million output tokens at so many tokens a second; None at none."""
    if output_throughput <= 0:
        return None
    return price_per_hour / 3600.0 / output_throughput * 1e6


def _priced(run: Run, price_per_hour: float | None) -> Run:
    if price_per_hour is None or run.cost_per_million is not None:
        return run
    cost = cost_per_million(price_per_hour, run.summary.get("output_throughput", 0.0))
    return replace(run, cost_per_million=cost)


def about_this_machine(now: datetime | None = None) -> dict[str, str]:
    """Rows for `Report.about`: processor, cores, memory, system, version and date."""
    when = now or datetime.now(UTC)
    instructions = ", ".join(instruction_sets()[-3:])
    try:
        installed = version("headway")
    except PackageNotFoundError:  # run from a checkout that was not installed
        installed = "not installed"
    return {
        "Processor": processor() + (f" ({instructions})" if instructions else ""),
        "Cores": str(cores()),
        "Memory": f"{total_memory() / 2**30:.0f} GiB",
        "System": f"{platform.system()} {platform.machine()}, Python {platform.python_version()}",
        "Headway": installed,
        "Date": when.strftime("%Y-%m-%d %H:%M UTC"),
    }


def median_run(runs: Sequence[Run], figure: str = "output_throughput") -> Run:
    """Of repeats of one system on one workload, the one with the median figure.

    Of an even number, the lower of the two in the middle: a run that was measured, not a mean of
    two. `runs` must not be empty.
    """
    ordered = sorted(runs, key=lambda run: run.summary.get(figure, 0.0))
    return ordered[(len(ordered) - 1) // 2]
