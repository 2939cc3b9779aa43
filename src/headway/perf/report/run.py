"""The data of a report: runs of one workload each, comparable within a group.

Runs of this engine, of external systems and of the simulator are the same thing here.
`build_report` adds prices, `about_this_machine` what a reader must know of the machine. Knows
neither how runs were made nor how they are shown.

A file of it is JSON, with records and bars stored by column so that a long run stays small. Times
between tokens are left out: their percentiles are in the summary. Everything else comes back as it
was, to the microsecond. A file that is no report, or is damaged, is an error that names the place.
"""

from __future__ import annotations

import platform
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Literal, NamedTuple

from headway.codec import KEY, Format, convert, decode, encode, read_bytes, write_bytes
from headway.errors import InvalidRequest
from headway.machine import cores, instruction_sets, processor, total_memory
from headway.perf.records.record import RequestRecord
from headway.perf.report.price import CURRENCY, HourlyPrice
from headway.perf.report.trial import Trial
from headway.steptime.passes import PassCurve

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
    """As `headway.perf.records.summary.summarize` gives it."""
    ranges: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    """Of figures of the summary, the lowest and the highest of all rounds; none of a single one."""
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
    currency: str = CURRENCY
    """Of that cost."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """Everything one page shows."""

    title: str
    about: Mapping[str, str]
    """Machine, commit, date, model and so on, for people."""
    runs: tuple[Run, ...]
    price_per_hour: float | None = None
    currency: str = CURRENCY
    """Of the price per hour."""
    notes: tuple[str, ...] = ()
    """Sentences for people: what was left out, what to bear in mind."""
    answer: str = ""
    """What was asked, answered in a sentence; empty where the systems are to be compared."""
    prediction: bool = False
    """Whether all runs of a group predict its first one, so that they have errors, no gains."""
    trials: tuple[Trial, ...] = ()
    """What a search tried, in that order."""
    passes: tuple[PassCurve, ...] = ()
    """How far it pays to compute prompts together, of each machine that is known."""


def build_report(
    *,
    title: str,
    runs: Iterable[Run],
    about: Mapping[str, str] | None = None,
    price: HourlyPrice | None = None,
    notes: Sequence[str] = (),
    answer: str = "",
    prediction: bool = False,
    trials: Iterable[Trial] = (),
) -> Report:
    """A report of these runs, in this order, with their cost where a price is given.

    The first run of a group is what the others of the group are compared with.
    """
    priced = tuple(_priced(run, price) for run in runs)
    return Report(
        title=title,
        about=dict(about or {}),
        runs=priced,
        price_per_hour=None if price is None else price.per_hour,
        currency=CURRENCY if price is None else price.currency,
        notes=tuple(notes),
        answer=answer,
        prediction=prediction,
        trials=tuple(trials),
    )


def _priced(run: Run, price: HourlyPrice | None) -> Run:
    throughput = run.summary.get("output_throughput", 0.0)
    if price is None or run.cost_per_million is not None or throughput <= 0:
        return run
    cost = price.per_million(throughput)
    return replace(run, cost_per_million=cost, currency=price.currency)


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
    two. It has the ranges of all. `runs` must not be empty.
    """
    ordered = sorted(runs, key=lambda run: run.summary.get(figure, 0.0))
    median = ordered[(len(ordered) - 1) // 2]
    return replace(median, ranges=_ranges(runs)) if len(runs) > 1 else median


RANGED = ("output_throughput", "p50_e2el_ms")
"""Figures of which the range over all rounds is kept: those by which systems are told apart."""


def _ranges(runs: Sequence[Run]) -> dict[str, tuple[float, float]]:
    columns = {name: [run.summary[name] for run in runs if name in run.summary] for name in RANGED}
    return {name: (min(found), max(found)) for name, found in columns.items() if found}


_KIND = "headway-report"
FORMAT = Format(
    what="a report of Headway",
    key="version",
    version=1,
    remedy="write it again with this version",
)
_RECORD_FIELDS = tuple(field.name for field in fields(RequestRecord) if field.name != "itls")
_OPTIONAL: Mapping[str, Any] = {
    each.name: each.default
    for each in fields(RequestRecord)
    if each.name in ("tenant", "service_class", "objectives", "draft_tokens", "accepted_tokens")
}
"""Columns that are there only where some request has another value than this."""


def write_report(path: str | Path, report: Report) -> None:
    """Writes the file, or replaces it. Raises `InvalidRequest` where it cannot be written."""
    write_bytes(path, dumps(report).encode())


def read_report(path: str | Path) -> Report:
    """The report in a file. Raises `InvalidRequest` where there is none that can be read."""
    return loads(read_bytes(path), name=str(path))


def dumps(report: Report) -> str:
    """The text of the file."""
    content = {field.name: getattr(report, field.name) for field in fields(Report)}
    content["runs"] = [_run_out(run) for run in report.runs]
    return encode({"format": _KIND, FORMAT.key: FORMAT.version} | content).decode()


def loads(text: str | bytes, *, name: str = "report") -> Report:
    """The report that a file's text holds; `name` is what errors call the file."""
    content = decode(dict[str, Any], text, name)
    if content.pop("format", None) != _KIND:
        raise InvalidRequest(f"{name} is not {FORMAT.what}", field=name)
    FORMAT.check(content.pop(FORMAT.key, None), name)
    runs = content.get("runs")
    for number, run in enumerate(runs if isinstance(runs, list) else ()):
        if isinstance(run, dict):
            where = f"{name}: runs[{number}]"
            if run.get("kind") == "outside":  # as earlier versions wrote it
                run["kind"] = "external"
            names = _record_fields(run.get("records"))
            run["records"] = [
                dict(zip(names, row, strict=True)) for row in _rows(run, "records", names, where)
            ]
            run["bars"] = list(_rows(run, "bars", Bar._fields, where))
    return convert(Report, content, name)


def _record_fields(columns: object) -> tuple[str, ...]:
    """Columns that these records must have: of `_OPTIONAL` those that are there."""
    found = columns if isinstance(columns, dict) else {}
    return tuple(name for name in _RECORD_FIELDS if name in found or name not in _OPTIONAL)


def _run_out(run: Run) -> dict[str, Any]:
    content = {each.metadata.get(KEY, each.name): getattr(run, each.name) for each in fields(Run)}
    names = [
        name
        for name in _RECORD_FIELDS
        if name not in _OPTIONAL or any(getattr(r, name) != _OPTIONAL[name] for r in run.records)
    ]
    return content | {
        "records": _columns(names, run.records),
        "bars": _columns(Bar._fields, run.bars),
    }


def _columns(names: Sequence[str], rows: Sequence[object]) -> dict[str, list[Any]]:
    return {name: [_short(getattr(row, name)) for row in rows] for name in names}


def _short(value: object) -> object:
    return round(value, 6) if isinstance(value, float) else value


def _rows(
    run: dict[str, Any], key: str, names: Sequence[str], where: str
) -> Iterable[tuple[Any, ...]]:
    """The rows of a table that is stored by column."""
    columns = convert(dict[str, list[Any]], run.get(key), f"{where}.{key}")
    if columns.keys() != set(names):
        raise InvalidRequest(f"{where}.{key} has not the columns {', '.join(names)}", field=where)
    if len({len(column) for column in columns.values()}) > 1:
        raise InvalidRequest(f"{where}.{key}: columns differ in length", field=where)
    return zip(*(columns[name] for name in names), strict=True)
