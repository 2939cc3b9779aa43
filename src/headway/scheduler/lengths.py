"""How long a generation will be, learnt from those that have ended.

Callers allow far more tokens than most answers use; reserving all of them would leave the batch
half empty. So a sequence that may stop early is expected to reach a high quantile of recent
lengths; once it has, to go on for half of what it has. Wrong guesses cost a preemption.
"""

from __future__ import annotations

from collections import deque
from math import ceil

FIRST_GUESS = 256
WINDOW = 256
FEWEST = 8
QUANTILE = 0.8


class LengthEstimate:
    """A quantile of the lengths, in tokens, of the last generations that ended by themselves."""

    def __init__(self, *, first_guess: int = FIRST_GUESS) -> None:
        self._recent: deque[int] = deque(maxlen=WINDOW)
        self._typical = first_guess

    def learn(self, generated: int) -> None:
        """A generation has ended after so many tokens."""
        self._recent.append(generated)
        if len(self._recent) >= FEWEST:
            ranked = sorted(self._recent)
            self._typical = ranked[ceil(QUANTILE * len(ranked)) - 1]

    def remaining(self, generated: int) -> int:
        """Expected further tokens, at least 1, of a sequence that has `generated` so far."""
        return max(1, self._typical - generated, generated // 2)
