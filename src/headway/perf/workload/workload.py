"""A workload: which requests to send, and when. Plain data for load generator and simulator.

A prompt is not stored token by token. It is a chain of segments, each a seed and a length, and
equal segments are equal tokens, everywhere and always: that is all that batching and prefix caching
can see of a text, and a trace of a hundred thousand long prompts stays small. Real models get ids
that any vocabulary has; simulations ids that tell every segment apart and cost next to nothing.

As a file a workload is JSON Lines, its name first and then a request a line, so that it can be sent
again exactly as it was.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from random import Random
from typing import NamedTuple

from headway.codec import Format, decode_document, encode, parse, replacing, versioned
from headway.types import ServiceClass
from headway.types.objectives import Objective

LONGEST = 1 << 20
"""Most tokens of a prompt or an answer: far beyond any model, and a bound on mistakes."""
MOST_REQUESTS = 5_000_000
"""Most requests of a workload."""
LONGEST_NAME = 128
"""Most characters of a tenant's name."""


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
    tenant: str = ""
    """Whose it is; empty where nobody is told apart."""
    service_class: ServiceClass = "standard"
    objectives: tuple[Objective, ...] = ()
    """Its own; empty: those of whoever serves and measures it."""

    @property
    def prompt_tokens(self) -> int:
        return sum(segment.length for segment in self.segments)


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """Requests in the order of their times, and what to call them."""

    name: str
    """In a few words, such as "128 at once, output exponential(96)"."""
    requests: tuple[WorkloadRequest, ...]

    @property
    def prompt_tokens(self) -> int:
        return sum(request.prompt_tokens for request in self.requests)

    @property
    def output_tokens(self) -> int:
        return sum(request.output for request in self.requests)


FORMAT = Format(
    what="a workload of Headway",
    key="headway_workload",
    version=1,
    remedy="write it again with this version",
)
"""Of the first line, which has the name; each other line is a `WorkloadRequest`.

Fields at their defaults are left out, so a file without objectives reads as it always did.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Header:
    name: str


def write_workload(path: str | Path, workload: Workload) -> None:
    """Writes a file anew; raises `InvalidRequest` where it cannot be written."""
    with replacing(path) as file:
        file.write(encode(versioned(_Header(name=workload.name), FORMAT)) + b"\n")
        file.writelines(encode(request, terse=True) + b"\n" for request in workload.requests)


def read_name(header: str, source: str) -> str:
    """The workload's name from a file's first line; raises `InvalidRequest`."""
    return decode_document(_Header, header, FORMAT, source).name


def read_requests(lines: Iterable[str]) -> Iterator[WorkloadRequest]:
    """Requests of the lines after the first; raises `ValueError` at the one at fault."""
    for line in lines:
        request = parse(WorkloadRequest, line)
        _check(request)
        yield request


def _check(request: WorkloadRequest) -> None:
    if request.at < 0:
        raise ValueError(f"at is a time in seconds, not {request.at:g}")
    whole(request.output, "output", 1)
    whole(request.cap, "cap", 1)
    if request.output > request.cap:
        raise ValueError(f"output {request.output} is more than cap {request.cap}")
    if not request.segments:
        raise ValueError("segments are pairs of a seed and a length")
    for segment in request.segments:
        whole(segment.seed, "a seed", 0, 1 << 62)
        whole(segment.length, "a length", 1)
    if len(request.tenant) > LONGEST_NAME:
        raise ValueError(f"a tenant's name has at most {LONGEST_NAME} characters")
    for objective in request.objectives:
        if not 0 < objective.seconds < math.inf:
            raise ValueError(f"an objective's seconds are above 0, not {objective.seconds:g}")
        if objective.percentile is not None and not 0 < objective.percentile <= 100:
            raise ValueError(f"percentiles are above 0, up to 100, not {objective.percentile:g}")


def whole(value: object, name: str, least: int, most: int = LONGEST) -> int:
    """The value if it is a whole number within bounds, else `ValueError` with the name."""
    if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
        raise ValueError(f"{name} is a whole number from {least} to {most}, not {value!r}")
    return value


_SEGMENTS = 1 << 26
"""Segment seeds that one workload may use from its first one on."""
_SEEDS = 1 << 42
"""Segment seeds told apart: times LONGEST, a token id stays below 2**62."""


def first_seed(seed: int) -> int:
    """Where the segment seeds of a workload with this seed begin: others begin elsewhere."""
    return seed % (_SEEDS // _SEGMENTS) * _SEGMENTS


def vocabulary_tokens(request: WorkloadRequest, low: int = 100, high: int = 30_000) -> list[int]:
    """Pseudo-random ids from `low` up to but not including `high`.

    The low ids are left out because tokenizers keep their special tokens there.
    """
    span = high - low
    return [low + word % span for segment in request.segments for word in _words(segment)]


def distinct_tokens(request: WorkloadRequest) -> tuple[int, ...]:
    """Ids from 0 up to 2**62 that two segments share only if their seeds are equal.

    Seeds count up to 2**42, beyond which they wrap.
    """
    return tuple(
        chain.from_iterable(
            range(start, start + length)
            for seed, length in request.segments
            for start in (seed % _SEEDS * LONGEST,)
        )
    )


def _words(segment: Segment) -> tuple[int, ...]:
    """As many pseudo-random 32-bit numbers as the segment has tokens."""
    drawn = Random(segment.seed).randbytes(4 * segment.length)  # noqa: S311
    return struct.unpack(f"<{segment.length}I", drawn)
