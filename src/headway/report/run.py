"""What a report is made of: runs of one workload each, comparable within a group.

Measured, simulated and outside systems' runs are the same thing here. Plain data that is written as
JSON and drawn as a page.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from headway.measurement.record import RequestRecord

Kind = Literal["engine", "outside", "simulated"]


class Bar(NamedTuple):
    """One request's stay in one slot of the batch: seconds since the run's start."""

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
    spread: float | None = None
    """The group's spread of output lengths: its standard deviation over its mean."""
    rate: float | None = None
    """Requests offered a second; None where all came at once."""
    summary: Mapping[str, float] = field(default_factory=dict)
    """As `headway.measurement.summarize` gives it."""
    records: tuple[RequestRecord, ...] = ()
    slots: int | None = None
    """Slots of the batch."""
    bars: tuple[Bar, ...] = ()
    idle_share: float | None = None
    """Of all slots over the run's time, the share in which no request sat."""
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
