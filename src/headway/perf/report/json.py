"""A report as a file: JSON, with records and bars stored by column so that a long run stays small.

Times between tokens are left out: their percentiles are in the summary. Everything else comes back
as it was, to the microsecond. A file that is no report, or is damaged, is an error that names the
place.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from headway.codec import KEY, Format, convert, decode, encode, read_bytes, write_bytes
from headway.errors import InvalidRequest
from headway.perf.records.record import RequestRecord
from headway.perf.report.run import Bar, Report, Run

_KIND = "headway-report"
FORMAT = Format(
    what="a report of Headway",
    key="version",
    version=1,
    remedy="write it again with this version",
)
_RECORD_FIELDS = tuple(field.name for field in fields(RequestRecord) if field.name != "itls")


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
            run["records"] = [
                dict(zip(_RECORD_FIELDS, row, strict=True))
                for row in _rows(run, "records", _RECORD_FIELDS, where)
            ]
            if run.get("kind") == "outside":  # as earlier versions wrote it
                run["kind"] = "external"
            run["bars"] = list(_rows(run, "bars", Bar._fields, where))
    return convert(Report, content, name)


def _run_out(run: Run) -> dict[str, Any]:
    content = {each.metadata.get(KEY, each.name): getattr(run, each.name) for each in fields(Run)}
    return content | {
        "records": _columns(_RECORD_FIELDS, run.records),
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
