"""Traffic: what is asked of an engine, in means, as data.

With the step-time model and the memory, it is what the right batch size follows from. An engine
learns it from the requests that come; for a machine that is only planned, a user states it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from headway.types.objectives import NO_PACE, Pace

RATE_SECONDS = 60.0
"""Over about so long arrivals count for the rate: what came before weighs 1/e of what comes now."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Traffic:
    """Means over requests. Lengths are in tokens."""

    prompt: float
    """Of a prompt, what must be computed: prefix hits do not count. At least 1."""
    output: float
    """Generated tokens of an answer, at least 1."""
    context: float
    """Positions that the decode of a token attends to; long answers count for each token."""
    held: float
    """KV cache of one running sequence, without what it shares with others."""
    cached: float = 0.0
    """Of a prompt, what the prefix cache had."""
    longest: int = 0
    """The longest prompt, hits included; 0 where it is not known."""
    rate: float | None = None
    """Requests a second; None: as many as can be served."""
    pace: Pace = NO_PACE
    """The tightest bounds that more than a few requests ask for."""

    def after(self, seconds: float) -> Traffic:
        """What is known once nothing has come for so long."""
        if self.rate is None:
            return self
        return replace(self, rate=self.rate * math.exp(-max(0.0, seconds) / RATE_SECONDS))
