"""What became of one request, as whoever sent it saw it.

The same record comes from a client of a server, from an engine in this process and from a
simulation, so that all reports are made alike. Times are seconds.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

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
