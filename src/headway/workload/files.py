"""A workload kept as a file of our own: JSON Lines, the name first, then a job a line.

So that any workload, made up or read, can be sent again exactly as it was. Reading is strict: an
error names the line.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from headway.errors import InvalidRequest
from headway.workload.job import LONGEST, Job, Segment, Workload

HEADER = "headway_workload"
"""The key of the first line by which such a file is known."""
_VERSION = 1


def write_workload(path: str | Path, workload: Workload) -> None:
    """Writes a file anew; raises `InvalidRequest` where it cannot be written."""
    try:
        with Path(path).open("w", encoding="utf-8") as file:
            file.write(json.dumps({HEADER: _VERSION, "name": workload.name}) + "\n")
            file.writelines(_line(job) for job in workload.jobs)
    except OSError as error:
        raise InvalidRequest(f"cannot write {path}: {error.strerror}", field=str(path)) from error


def read_name(header: str) -> str:
    """The workload's name from a file's first line; raises `ValueError` for another version."""
    found = json.loads(header)
    version, name = found.get(HEADER), found.get("name")
    if version != _VERSION or not isinstance(name, str):
        raise ValueError(f"version {version!r} of the format is not known")
    return name


def read_jobs(lines: Iterable[str]) -> Iterator[Job]:
    """Jobs of the lines after the first; raises `ValueError` at the one at fault."""
    for line in lines:
        yield _job(json.loads(line))


def _line(job: Job) -> str:
    values = {"at": job.at, "output": job.output, "cap": job.cap, "segments": job.segments}
    return json.dumps(values, allow_nan=False, separators=(",", ":")) + "\n"


def _job(values: Any) -> Job:
    if not isinstance(values, dict) or values.keys() != {"at", "output", "cap", "segments"}:
        raise ValueError("a job has the fields at, output, cap and segments")
    at, segments = values["at"], values["segments"]
    if not isinstance(at, int | float) or not math.isfinite(at) or at < 0:
        raise ValueError(f"at is a time in seconds, not {at!r}")
    output, cap = whole(values["output"], "output", 1), whole(values["cap"], "cap", 1)
    if output > cap:
        raise ValueError(f"output {output} is more than cap {cap}")
    if not isinstance(segments, list) or not segments:
        raise ValueError("segments are pairs of a seed and a length")
    return Job(segments=tuple(map(_segment, segments)), output=output, cap=cap, at=float(at))


def _segment(pair: Any) -> Segment:
    if not isinstance(pair, list) or len(pair) != 2:
        raise ValueError("segments are pairs of a seed and a length")
    return Segment(whole(pair[0], "a seed", 0, 1 << 62), whole(pair[1], "a length", 1))


def whole(value: object, name: str, least: int, most: int = LONGEST) -> int:
    """The value if it is a whole number within bounds, else `ValueError` with the name."""
    if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
        raise ValueError(f"{name} is a whole number from {least} to {most}, not {value!r}")
    return value
