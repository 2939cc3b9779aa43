"""One candidate of a search for the fleet, the batch or the rate that holds objectives."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from headway.perf.report.price import CURRENCY


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """What was tried, and how it fared."""

    replicas: int
    max_num_seqs: int
    max_num_batched_tokens: int
    rate: float | None = None
    """Requests offered a second; None where all came at once."""
    attainment: float
    """Share of the offered requests that met every objective."""
    attains: bool
    """Whether the objectives held, at their percentiles, and no request was refused."""
    measured: Mapping[str, float | None]
    """Each objective's time in seconds at its percentile; None where there was none."""
    cost_per_million: float | None = None
    """Price of a million output tokens; None without a price, or without tokens."""
    currency: str = CURRENCY
    """Of that price."""
