"""A report as a file: JSON, with tables stored by column so that a long run stays small.

Times between tokens are left out: their percentiles are in the summary. Everything else comes back
as it was, to the microsecond. A file that is no report, or is damaged, is an error that names the
place.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar, get_args

from headway.errors import InvalidRequest
from headway.perf.records.record import Outcome, RequestRecord
from headway.perf.report.run import Bar, Kind, Report, Run

Row = TypeVar("Row")

_FORMAT = "headway-report"
_VERSION = 1
_RECORD_FIELDS = (
    "id",
    "due",
    "sent",
    "prompt_tokens",
    "output_tokens",
    "ttft",
    "latency",
    "largest_gap",
    "cached_tokens",
    "outcome",
    "error",
)
_PLAIN = ("system", "group", "spread", "rate", "slots", "idle_share", "percent_of_limit")


def write_report(path: str | Path, report: Report) -> None:
    """Writes the file, or replaces it. Raises `InvalidRequest` where it cannot be written."""
    text = dumps(report)
    try:
        Path(path).write_text(text, encoding="utf-8")
    except OSError as error:
        raise InvalidRequest(f"cannot write {path}: {error.strerror}", field="json") from error


def read_report(path: str | Path) -> Report:
    """The report in a file. Raises `InvalidRequest` where there is none that can be read."""
    try:
        text = Path(path).read_text(encoding="utf-8")
    except OSError as error:
        raise InvalidRequest(f"cannot read {path}: {error.strerror}", field=str(path)) from error
    except UnicodeDecodeError as error:
        raise InvalidRequest(f"{path} is not text in UTF-8", field=str(path)) from error
    return loads(text, name=str(path))


def dumps(report: Report) -> str:
    """The text of the file."""
    return json.dumps(
        {
            "format": _FORMAT,
            "version": _VERSION,
            "title": report.title,
            "about": dict(report.about),
            "price_per_hour": report.price_per_hour,
            "notes": list(report.notes),
            "runs": [_run_out(run) for run in report.runs],
        },
        ensure_ascii=False,
        allow_nan=False,
    )


def loads(text: str, *, name: str = "report") -> Report:
    """The report that a file's text holds; `name` is what errors call the file."""
    try:
        found = json.loads(text)
    except ValueError as error:
        raise InvalidRequest(f"{name} is not JSON: {error}", field=name) from error
    if not isinstance(found, dict) or found.get("format") != _FORMAT:
        raise InvalidRequest(f"{name} is not a report of headway", field=name)
    if found.get("version") != _VERSION:
        raise InvalidRequest(
            f"{name} has version {found.get('version')!r} of the format, and this headway reads "
            f"version {_VERSION}: write it again with this version",
            field="version",
        )
    runs = _field(found, "runs", list, name)
    return Report(
        title=_field(found, "title", str, name),
        about=_field(found, "about", dict, name),
        runs=tuple(_run_in(run, f"{name}: runs[{number}]") for number, run in enumerate(runs)),
        price_per_hour=_number(found, "price_per_hour", name),
        notes=tuple(_field(found, "notes", list, name)),
    )


def _run_out(run: Run) -> dict[str, Any]:
    return {
        **{field: getattr(run, field) for field in _PLAIN},
        "kind": run.kind,
        "settings": dict(run.settings),
        "summary": dict(run.summary),
        "cost_per_million": run.cost_per_million,
        "records": _columns(_RECORD_FIELDS, run.records),
        "bars": _columns(Bar._fields, run.bars),
    }


def _columns(fields: Sequence[str], rows: Sequence[object]) -> dict[str, list[Any]]:
    return {field: [_short(getattr(row, field)) for row in rows] for field in fields}


def _short(value: object) -> object:
    return round(value, 6) if isinstance(value, float) else value


def _run_in(found: object, where: str) -> Run:
    if not isinstance(found, dict):
        raise InvalidRequest(f"{where} is not an object", field=where)
    kind = _field(found, "kind", str, where)
    if kind not in get_args(Kind):
        raise InvalidRequest(f"{where}: kind {kind!r} is not known", field="kind")
    slots = _number(found, "slots", where)
    records = _field(found, "records", dict, where)
    return Run(
        system=_field(found, "system", str, where),
        group=_field(found, "group", str, where),
        kind=kind,
        settings=_field(found, "settings", dict, where),
        spread=_number(found, "spread", where),
        rate=_number(found, "rate", where),
        summary=_field(found, "summary", dict, where),
        records=_rows(records, _RECORD_FIELDS, _record, f"{where}: records"),
        slots=None if slots is None else int(slots),
        bars=_rows(_field(found, "bars", dict, where), Bar._fields, _bar, f"{where}: bars"),
        idle_share=_number(found, "idle_share", where),
        percent_of_limit=_number(found, "percent_of_limit", where),
        cost_per_million=_number(found, "cost_per_million", where),
    )


def _rows(
    found: Mapping[str, Any],
    fields: Sequence[str],
    make: Callable[[Mapping[str, Any]], Row],
    where: str,
) -> tuple[Row, ...]:
    columns = [_field(found, field, list, where) for field in fields]
    if len({len(column) for column in columns}) > 1:
        raise InvalidRequest(f"{where}: columns differ in length", field=where)
    try:
        return tuple(
            make(dict(zip(fields, row, strict=True))) for row in zip(*columns, strict=True)
        )
    except (TypeError, ValueError) as error:
        raise InvalidRequest(f"{where}: {error}", field=where) from error


def _record(row: Mapping[str, Any]) -> RequestRecord:
    if row["outcome"] not in get_args(Outcome):
        raise ValueError(f"outcome {row['outcome']!r} is not known")
    for field in ("due", "sent", "prompt_tokens", "output_tokens", "largest_gap", "cached_tokens"):
        float(row[field])
    for field in ("ttft", "latency"):
        float(row[field] or 0.0)
    return RequestRecord(**row)


def _bar(row: Mapping[str, Any]) -> Bar:
    return Bar(
        slot=int(row["slot"]),
        begin=float(row["begin"]),
        first=float(row["first"]),
        end=float(row["end"]),
        request=str(row["request"]),
    )


def _field(found: Mapping[str, Any], field: str, kind: type, where: str) -> Any:
    value = found.get(field)
    if not isinstance(value, kind):
        raise InvalidRequest(f"{where}: {field} is missing or of the wrong kind", field=field)
    return value


def _number(found: Mapping[str, Any], field: str, where: str) -> float | None:
    value = found.get(field)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise InvalidRequest(f"{where}: {field} is not a number", field=field)
    return float(value)
