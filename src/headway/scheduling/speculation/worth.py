"""Whether it is worth asking a proposer that takes time to find its drafts.

What its drafts saved pays for the time that asking takes, whether anything was found or not. While
more is spent than was saved, it is asked now and then alone, to see whether that has changed.
"""

from __future__ import annotations

ADVANCE = 256
"""Times the last asking's time that may be spent before anything is saved: what there is to find
comes in bursts."""
SELDOM = 16
"""Steps, of which one asks, of a proposer that is not worth it."""


class Worth:
    """Of one proposer. Times in seconds."""

    def __init__(self) -> None:
        self._spare: float | None = None

    def asks(self, step: int) -> bool:
        """Whether the proposer is asked in that step."""
        return self._spare is None or self._spare >= 0.0 or step % SELDOM == 0

    def learn(self, spent: float, saved: float) -> None:
        """To ask took so long (more than 0), and its drafts saved so much: less than 0 where they
        made the step longer than they were worth."""
        most = ADVANCE * spent
        spare = most if self._spare is None else self._spare
        self._spare = min(spare + saved - spent, most)
