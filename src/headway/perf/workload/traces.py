"""Recorded traffic as workloads: Azure's CSV, Mooncake's JSON Lines, and files of our own.

The format is told by the first line. Traces carry lengths and times, and Mooncake's also which
blocks of their prompts requests have in common; texts are made up. Lengths and times can be scaled
for smaller machines, and a trace that is too short is repeated.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime
from itertools import islice
from pathlib import Path
from typing import Any, TextIO

from headway.errors import InvalidRequest
from headway.perf.workload.workload import (
    FORMAT,
    LONGEST,
    MOST_REQUESTS,
    Segment,
    Workload,
    WorkloadRequest,
    first_seed,
    read_name,
    read_requests,
    whole,
)

MOONCAKE_BLOCK = 512
"""Tokens that one of Mooncake's hash ids stands for."""
_LONGEST_LINE = 1 << 20
"""Characters."""
_AZURE = ("timestamp", "contexttokens", "generatedtokens")


def read_trace(
    path: str | Path,
    *,
    num_requests: int | None = None,
    length_scale: float = 1.0,
    rate_scale: float = 1.0,
    cap: int | None = None,
    seed: int = 0,
) -> Workload:
    """A trace's requests in the order of their times, the first one at 0.

    `num_requests` takes so many from the beginning; more than there are repeat the trace, each time
    later and with prompts of its own. All lengths, those of shared blocks too, are multiplied by
    `length_scale` and are at least 1; `rate_scale` 2 sends the requests in half the time. `cap` is
    every request's `max_tokens` and cuts longer outputs (None: what the file says, or the output
    itself). Another `seed` makes other prompts with the same in common.

    Raises `InvalidRequest`, which names the line where one is at fault.
    """
    _check(num_requests, length_scale, rate_scale, cap)
    try:
        with Path(path).open(encoding="utf-8") as file:
            name, requests = _read(file, str(path), num_requests)
    except OSError as error:
        raise InvalidRequest(f"cannot read {path}: {error.strerror}", field=str(path)) from error
    except UnicodeDecodeError as error:
        raise InvalidRequest(f"{path} is not text in UTF-8", field=str(path)) from error
    requests.sort(key=lambda request: request.at)
    begin = requests[0].at
    first = first_seed(seed)
    scaled = [
        _scaled(request, length_scale, (request.at - begin) / rate_scale, cap, first)
        for request in requests
    ]
    notes = [f"lengths x {length_scale:g}"] if length_scale != 1 else []
    notes += [f"rate x {rate_scale:g}"] if rate_scale != 1 else []
    return Workload(
        name=", ".join([name, *notes]),
        requests=tuple(_repeated(scaled, num_requests or len(requests))),
    )


def _read(file: TextIO, path: str, num_requests: int | None) -> tuple[str, list[WorkloadRequest]]:
    """The workload's name, and at most so many requests."""
    lines = _Lines(file, path)
    try:
        first = next(lines, "")
        name, requests = _detect_format(first, lines, path)
        found = list(islice(requests, num_requests))
    except UnicodeDecodeError:
        raise
    except (ValueError, OverflowError) as error:
        where = f"{path}, line {lines.number}"
        raise InvalidRequest(f"{where}: {error}", field=where) from error
    if not found:
        raise InvalidRequest(f"{path} holds no requests", field=path)
    return name, found


def _detect_format(
    first: str, lines: Iterator[str], path: str
) -> tuple[str, Iterator[WorkloadRequest]]:
    """By the first line: the workload's name, and its requests as they are read."""
    columns = tuple(cell.strip().lower() for cell in first.lstrip("\ufeff").split(","))
    if columns == _AZURE:
        return Path(path).stem, _azure(lines)
    values = _object(first)
    if FORMAT.key in values:
        return read_name(first, f"{path}, line 1"), read_requests(lines)
    if {"timestamp", "input_length", "output_length"} <= values.keys():
        return Path(path).stem, _mooncake(first, lines)
    raise ValueError(
        "neither a CSV file with the columns TIMESTAMP,ContextTokens,GeneratedTokens nor JSON "
        "Lines with timestamp, input_length and output_length nor a workload of our own"
    )


def _azure(lines: Iterator[str]) -> Iterator[WorkloadRequest]:
    """A row is a date with a time, the prompt's tokens and the answer's."""
    for index, line in enumerate(lines):
        cells = line.strip().split(",")
        if len(cells) != 3:
            raise ValueError(f"a row has 3 columns, not {len(cells)}")
        at = datetime.fromisoformat(cells[0])
        prompt = whole(int(cells[1]), "ContextTokens", 0)
        output = max(1, whole(int(cells[2]), "GeneratedTokens", 0))
        yield WorkloadRequest(
            segments=(Segment(index, max(1, prompt)),),
            output=output,
            cap=output,
            # Relative to any day: only differences matter, and these are exact.
            at=(at.replace(tzinfo=None) - datetime(2000, 1, 1)).total_seconds(),
        )


def _mooncake(first: str, lines: Iterator[str]) -> Iterator[WorkloadRequest]:
    """A line is a request; requests share the blocks of whose hash ids they share the first."""
    yield _mooncake_request(_object(first))
    for line in lines:
        yield _mooncake_request(_object(line))


def _mooncake_request(values: dict[str, Any]) -> WorkloadRequest:
    at = values.get("timestamp")
    if not isinstance(at, int | float) or not math.isfinite(at) or at < 0:
        raise ValueError(f"timestamp is a number of milliseconds, not {at!r}")
    prompt = max(1, whole(values.get("input_length"), "input_length", 0))
    output = max(1, whole(values.get("output_length"), "output_length", 0))
    ids = values.get("hash_ids")
    if not isinstance(ids, list) or len(ids) != math.ceil(prompt / MOONCAKE_BLOCK):
        raise ValueError(
            f"hash_ids is a list of one number for each {MOONCAKE_BLOCK} tokens of input_length "
            f"or part of them: {math.ceil(prompt / MOONCAKE_BLOCK)} for {prompt} tokens"
        )
    last = prompt - (len(ids) - 1) * MOONCAKE_BLOCK
    lengths = [MOONCAKE_BLOCK] * (len(ids) - 1) + [last]
    segments = tuple(
        Segment(whole(id_, "a hash id", 0, 1 << 62), length)
        for id_, length in zip(ids, lengths, strict=True)
    )
    return WorkloadRequest(segments=segments, output=output, cap=output, at=at / 1000)


def _scaled(
    request: WorkloadRequest, scale: float, at: float, cap: int | None, first: int
) -> WorkloadRequest:
    output = _length(request.output, scale)
    most = max(output, _length(request.cap, scale)) if cap is None else cap
    return replace(
        request,
        segments=tuple(Segment(first + s.seed, _length(s.length, scale)) for s in request.segments),
        output=min(output, most),
        cap=most,
        at=at,
    )


def _length(tokens: int, scale: float) -> int:
    return min(LONGEST, max(1, round(tokens * scale)))


def _repeated(requests: list[WorkloadRequest], num_requests: int) -> Iterator[WorkloadRequest]:
    """So many requests; each time round takes as long as the trace and one average gap."""
    seeds = [segment.seed for request in requests for segment in request.segments]
    span = max(seeds) - min(seeds) + 1
    period = requests[-1].at * len(requests) / max(1, len(requests) - 1)
    for index in range(num_requests):
        turn, place = divmod(index, len(requests))
        request = requests[place]
        if turn:
            again = tuple(Segment(s.seed + turn * span, s.length) for s in request.segments)
            request = replace(request, segments=again, at=request.at + turn * period)
        yield request


class _Lines:
    """Lines of a file that are not blank, counted, and none of them without bounds."""

    def __init__(self, file: TextIO, path: str) -> None:
        self.number = 0
        self._file = file
        self._path = path

    def __iter__(self) -> _Lines:
        return self

    def __next__(self) -> str:
        while line := self._file.readline(_LONGEST_LINE):
            self.number += 1
            if len(line) == _LONGEST_LINE:
                raise ValueError(f"longer than {_LONGEST_LINE} characters")
            if self.number > MOST_REQUESTS + 1:
                raise ValueError(f"more than {MOST_REQUESTS} requests; take fewer of them")
            if line.strip():
                return line
        raise StopIteration


def _object(line: str) -> dict[str, Any]:
    try:
        values = json.loads(line)
    except ValueError:
        values = None
    if not isinstance(values, dict):
        raise ValueError("neither JSON nor the header of a CSV file")
    return values


def _check(
    num_requests: int | None, length_scale: float, rate_scale: float, cap: int | None
) -> None:
    if num_requests is not None and not 1 <= num_requests <= MOST_REQUESTS:
        raise InvalidRequest(
            f"num_requests must be from 1 to {MOST_REQUESTS}, not {num_requests}",
            field="num_requests",
        )
    for name, scale in (("length_scale", length_scale), ("rate_scale", rate_scale)):
        if not 0 < scale < math.inf:
            raise InvalidRequest(f"{name} must be finite and above 0, not {scale:g}", field=name)
    if cap is not None and not 1 <= cap <= LONGEST:
        raise InvalidRequest(f"cap must be from 1 to {LONGEST}, not {cap}", field="cap")
