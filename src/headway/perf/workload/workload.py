"""What is asked, and when: plain data that the load generator sends and the simulator replays.

A prompt is not stored token by token. It is a chain of segments, each a seed and a length, and
equal segments are equal tokens: that is all that batching and prefix caching can see of a text, and
a trace of a hundred thousand long prompts stays small.

A workload kept as a file of our own: JSON Lines, the name first, then a job a line.

So that any workload, made up or read, can be sent again exactly as it was. Reading is strict: an
error names the line.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from headway.errors import InvalidRequest

LONGEST = 1 << 20
"""Most tokens of a prompt or an answer: far beyond any model, and a bound on mistakes."""
MOST_REQUESTS = 5_000_000
"""Most jobs of a workload."""


class Segment(NamedTuple):
    """So many tokens of a prompt; the same seed and length always stand for the same tokens."""

    seed: int
    length: int


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkloadRequest:
    """One request to be made."""

    segments: tuple[Segment, ...]
    """The prompt, at least one token."""
    output: int
    """Tokens that it will generate, at least 1."""
    cap: int
    """Most tokens that its caller allows (`max_tokens`), at least `output`.

    Where it is more, the request ends by itself: the server learns only then how long it was.
    """
    at: float = 0.0
    """When it is to be sent: seconds after the workload's start."""

    @property
    def prompt_tokens(self) -> int:
        return sum(segment.length for segment in self.segments)


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """Jobs in the order of their times, and what to call them."""

    name: str
    """In a few words, such as "128 at once, output exponential(96)"."""
    jobs: tuple[WorkloadRequest, ...]

    @property
    def prompt_tokens(self) -> int:
        return sum(job.prompt_tokens for job in self.jobs)

    @property
    def output_tokens(self) -> int:
        return sum(job.output for job in self.jobs)


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


def read_jobs(lines: Iterable[str]) -> Iterator[WorkloadRequest]:
    """Jobs of the lines after the first; raises `ValueError` at the one at fault."""
    for line in lines:
        yield _job(json.loads(line))


def _line(job: WorkloadRequest) -> str:
    values = {"at": job.at, "output": job.output, "cap": job.cap, "segments": job.segments}
    return json.dumps(values, allow_nan=False, separators=(",", ":")) + "\n"


def _job(values: Any) -> WorkloadRequest:
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
    return WorkloadRequest(
        segments=tuple(map(_segment, segments)), output=output, cap=cap, at=float(at)
    )


def _segment(pair: Any) -> Segment:
    if not isinstance(pair, list) or len(pair) != 2:
        raise ValueError("segments are pairs of a seed and a length")
    return Segment(whole(pair[0], "a seed", 0, 1 << 62), whole(pair[1], "a length", 1))


def whole(value: object, name: str, least: int, most: int = LONGEST) -> int:
    """The value if it is a whole number within bounds, else `ValueError` with the name."""
    if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
        raise ValueError(f"{name} is a whole number from {least} to {most}, not {value!r}")
    return value
