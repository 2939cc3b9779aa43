"""The record of one request, as its client saw it: times, tokens, outcome. Times are seconds.

The same record comes from a client of a server, from an engine in this process and from a
simulation, so that all reports are made alike. As a file records are JSON Lines, one request a
line; fields at their defaults are left out.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from operator import sub
from pathlib import Path
from typing import Literal

from headway.codec import Count, decode, encode, read_bytes, replacing
from headway.types import ServiceClass
from headway.types.objectives import Objective

Outcome = Literal["ok", "refused", "error"]
"""A complete answer; refused before its first token (429, 503); anything else."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestRecord:
    """One request. `ttft` and `latency` count from `sent`; `sent - due` is the client's delay."""

    id: str
    due: float
    """When it was to be sent, after the start of the measurement."""
    sent: float
    """When it was, after the start of the measurement."""
    prompt_tokens: Count
    output_tokens: Count = 0
    """Those that came."""
    ttft: float | None = None
    """To the first token; None if none came."""
    latency: float | None = None
    """To the last token; None if none came."""
    largest_gap: float = 0.0
    """Longest time between two pieces of the answer."""
    itls: tuple[float, ...] = ()
    """Times between pieces; empty where they were counted elsewhere or there was one piece."""
    cached_tokens: Count = 0
    """Prompt tokens that the server found in its prefix cache, where it says so."""
    draft_tokens: Count = 0
    """Tokens that the server computed ahead of their sampling, where it says so ..."""
    accepted_tokens: Count = 0
    """... and those of them that are part of the answer."""
    outcome: Outcome = "ok"
    error: str = ""
    tenant: str = ""
    service_class: ServiceClass = "standard"
    objectives: tuple[Objective, ...] = ()
    """Its own; empty: those of the run."""

    @property
    def tpot(self) -> float | None:
        """Seconds per token after the first; None for less than two tokens."""
        if self.ttft is None or self.latency is None or self.output_tokens < 2:
            return None
        return (self.latency - self.ttft) / (self.output_tokens - 1)

    def with_times(self, times: Sequence[float], *, sent: float) -> RequestRecord:
        """The record with the latencies that follow from when pieces of the answer came.

        `times` and `sent` are seconds on one clock. As vLLM's client has it: time to first token
        and latency end at the first and the last piece that brought tokens, and inter-token
        latencies are the times between pieces.
        """
        if not times:
            return self
        itls = tuple(map(sub, times[1:], times))
        return replace(
            self,
            ttft=times[0] - sent,
            latency=times[-1] - sent,
            largest_gap=max(itls, default=0.0),
            itls=itls,
        )


def write_records(path: str | Path, records: Iterable[RequestRecord]) -> None:
    """Writes a file anew; raises `InvalidRequest` where it cannot be written."""
    with replacing(path) as file:
        file.writelines(encode(record, terse=True) + b"\n" for record in records)


def read_records(path: str | Path) -> tuple[RequestRecord, ...]:
    """All records of a file; raises `InvalidRequest` naming the line at fault."""
    return tuple(
        decode(RequestRecord, line, f"{path}, line {number}")
        for number, line in enumerate(read_bytes(path).split(b"\n"), 1)
        if line.strip()
    )
