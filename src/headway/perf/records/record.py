"""What became of one request, as whoever sent it saw it.

The same record comes from a client of a server, from an engine in this process and from a
simulation, so that all reports are made alike. Times are seconds.

Records as JSON Lines: one request a line, fields named as in `RequestRecord`.

Fields at their defaults are left out. Reading is strict, so that a file from elsewhere is not
mistaken for one of ours: an unknown field, a missing one or one of the wrong kind is an error that
names the line.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable
from dataclasses import MISSING, Field, dataclass, fields
from pathlib import Path
from typing import Any, Literal, get_args

from headway.errors import InvalidRequest

Outcome = Literal["ok", "refused", "error"]
"""Whole answer; turned away before its first token (429, 503); anything else."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestRecord:
    """One request. `ttft` and `latency` count from `sent`; `due` tells how far the client lags."""

    id: str
    due: float
    """When it was to be sent, after the start of the measurement."""
    sent: float
    """When it was, after the start of the measurement."""
    prompt_tokens: int
    output_tokens: int = 0
    """Those that came."""
    ttft: float | None = None
    """To the first token; None if none came."""
    latency: float | None = None
    """To the last token; None if none came."""
    largest_gap: float = 0.0
    """Longest time between two pieces of the answer."""
    itls: tuple[float, ...] = ()
    """Times between pieces; empty where they were counted elsewhere or there was one piece."""
    cached_tokens: int = 0
    """Prompt tokens that the server found in its prefix cache, where it says so."""
    outcome: Outcome = "ok"
    error: str = ""

    @property
    def tpot(self) -> float | None:
        """Seconds per token after the first; None for less than two tokens."""
        if self.ttft is None or self.latency is None or self.output_tokens < 2:
            return None
        return (self.latency - self.ttft) / (self.output_tokens - 1)


_FIELDS: tuple[Field[Any], ...] = fields(RequestRecord)


def write_records(path: str | Path, records: Iterable[RequestRecord]) -> None:
    """Writes a file anew; raises `InvalidRequest` where it cannot be written."""
    try:
        with Path(path).open("w", encoding="utf-8") as file:
            file.writelines(_line(record) for record in records)
    except OSError as error:
        raise InvalidRequest(f"cannot write {path}: {error.strerror}", field=str(path)) from error


def read_records(path: str | Path) -> tuple[RequestRecord, ...]:
    """All records of a file; raises `InvalidRequest` naming the line at fault."""
    records = []
    try:
        with Path(path).open(encoding="utf-8") as file:
            for number, line in enumerate(file, 1):
                if line.strip():
                    records.append(_record(line, f"{path}, line {number}"))
    except OSError as error:
        raise InvalidRequest(f"cannot read {path}: {error.strerror}", field=str(path)) from error
    except UnicodeDecodeError as error:
        raise InvalidRequest(f"{path} is not text in UTF-8", field=str(path)) from error
    return tuple(records)


def _line(record: RequestRecord) -> str:
    values = {field.name: getattr(record, field.name) for field in _FIELDS}
    told = {
        field.name: values[field.name]
        for field in _FIELDS
        if field.default is MISSING or values[field.name] != field.default
    }
    return json.dumps(told, allow_nan=False) + "\n"


def _record(line: str, where: str) -> RequestRecord:
    try:
        values = json.loads(line)
    except ValueError as error:
        raise InvalidRequest(f"{where}: not JSON", field=where) from error
    if not isinstance(values, dict):
        raise InvalidRequest(f"{where}: not an object", field=where)
    unknown = values.keys() - {field.name for field in _FIELDS}
    if unknown:
        raise InvalidRequest(f"{where}: unknown field {min(unknown)!r}", field=where)
    for field in _FIELDS:
        if field.name not in values:
            if field.default is MISSING:
                raise InvalidRequest(f"{where}: {field.name!r} is missing", field=where)
            continue
        if not _CHECKS[field.name](values[field.name]):
            raise InvalidRequest(f"{where}: {field.name!r} is of the wrong kind", field=where)
    if "itls" in values:
        values["itls"] = tuple(values["itls"])
    return RequestRecord(**values)


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _is_time(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _is_time_or_none(value: object) -> bool:
    return value is None or _is_time(value)


def _is_text(value: object) -> bool:
    return isinstance(value, str)


_CHECKS: dict[str, Callable[[object], bool]] = {
    "id": _is_text,
    "due": _is_time,
    "sent": _is_time,
    "prompt_tokens": _is_count,
    "output_tokens": _is_count,
    "ttft": _is_time_or_none,
    "latency": _is_time_or_none,
    "largest_gap": _is_time,
    "itls": lambda value: isinstance(value, list) and all(map(_is_time, value)),
    "cached_tokens": _is_count,
    "outcome": lambda value: value in get_args(Outcome),
    "error": _is_text,
}
