"""When to start a dead engine again, how long to wait before, and when to give up.

A death over requests is the ledger's to solve. A death without any cannot be: the machine or the
model must be at fault, so after a few in a row without useful work between, the engine has failed.
"""

from __future__ import annotations

MAX_DEATHS = 5
SETTLED = 60.0
"""Seconds of life, or any token delivered, after which earlier deaths are forgotten."""
FIRST_WAIT = 0.5


class RestartPolicy:
    """Counts deaths that no request explains."""

    def __init__(self) -> None:
        self._deaths = 0

    def died(self, *, lifetime: float, useful: bool, explained: bool) -> float | None:
        """Seconds to wait before the next start; None if there should be none.

        `useful` says that tokens came from the engine that died, `explained` that it had requests.
        """
        if useful or lifetime >= SETTLED:
            self._deaths = 0
        if explained:
            return 0.0
        self._deaths += 1
        if self._deaths >= MAX_DEATHS:
            return None
        return 0.0 if self._deaths == 1 else FIRST_WAIT * 2 ** (self._deaths - 2)
