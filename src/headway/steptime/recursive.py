"""Recursive least squares whose forgetting is a random walk: a Kalman filter of the coefficients.

A forgetting factor would lose whatever the present traffic does not show: after an hour of decodes
nothing would be known of prefills. Here certainty is lost instead, as fast as machines change, and
in two ways. All coefficients drift *together*: the machine's speed wanders. Each drifts on its
*own*, slowly and only up to a bound. So a step of any kind tells how fast the machine is, which
moves also those coefficients by the same share of which it tells nothing else; and what an error is
put down to follows from the covariance: at first to the speed, which is what a prior knows least,
later to whatever the step depends on and is known worst.

How fast the speed wanders is learned too. Successive errors of a filter that drifts at the right
pace are uncorrelated (Mehra, 1970): errors of one sign make it faster, of changing sign slower.

Coefficients are never negative: one that would be becomes 0, and the others move as the covariance
says they do if it is (the projection of Simon and Chia, 2002).
"""

from __future__ import annotations

from collections.abc import Sequence
from math import sqrt
from operator import add, mul, sub

TOGETHER = 2e-3
"""Variance that the drift of all coefficients together gains in a second, relative, when calm."""
HASTIEST = 100.0
"""A restless machine drifts so many times as fast at most."""
OWN = 1e-4
"""Variance that the drift of each coefficient on its own gains in a second, relative."""
APART = 0.2
"""As a standard deviation over the coefficient, what that drift leads to at most: whatever the
machine did to decodes for an hour, prefills have lost no more against them."""
UNKNOWN_TOGETHER, UNKNOWN_OWN = 1.0, 0.7
"""How far coefficients may be off of which nothing was measured: all by the same factor, and each
on its own. Standard deviations over the coefficients."""
_PATIENCE = 0.1
_LONGEST = 1.0
"""Seconds: of a longer step no more counts for the drift."""
_GRAIN = 1e-4
"""Drifts together by less variance are saved up: short steps shall not pay for one each time."""
_SMALL = 0.1
"""A coefficient drifts as one of at least this share of the mean does; so 0 is left again."""
_TINY = 1e-9


class RecursiveLeastSquares:
    """Finds coefficients that make rows of features, over their measured seconds, add up to 1.

    Rows are relative, so errors are too. `together` and `own` say how far the coefficients may be
    off at first, as `UNKNOWN_TOGETHER` and `UNKNOWN_OWN` do.
    """

    def __init__(
        self,
        coefficients: Sequence[float],
        *,
        together: float = UNKNOWN_TOGETHER,
        own: float = UNKNOWN_OWN,
    ) -> None:
        self.coefficients = list(coefficients)
        self._haste = 1.0
        self._last = 0.0
        self._elapsed = 0.0
        """Seconds of steps since the last drift."""
        self._covariance: list[float] = []
        """Line after line."""
        self.reopen(together, own)

    def reopen(self, together: float = UNKNOWN_TOGETHER, own: float = UNKNOWN_OWN) -> None:
        """Keep the coefficients, but be so uncertain of them."""
        found = self.coefficients
        self._covariance = _product([together * each for each in found])
        for i, scale in enumerate(self._scales(1.0)):
            self._covariance[i * (len(found) + 1)] += (own * scale) ** 2

    def learn(self, row: Sequence[float], noise: float, seconds: float) -> None:
        """One step: its row, the variance of its relative error, and how long it took."""
        self._elapsed += min(seconds, _LONGEST)
        if TOGETHER * self._haste * self._elapsed >= _GRAIN:
            self._drift()
        found, values = self.coefficients, iter(self._covariance)
        gains = [sum(map(mul, row, values)) for _ in row]  # each takes a line
        spread = sqrt(max(sum(map(mul, gains, row)), 0.0) + noise)
        off = (1.0 - sum(map(mul, row, found))) / spread
        gains = [gain / spread for gain in gains]
        self._covariance = list(map(sub, self._covariance, _product(gains)))
        self.coefficients = [each + gain * off for each, gain in zip(found, gains, strict=True)]
        if min(self.coefficients) < 0.0:
            self._project()
        self._adapt(min(max(off, -2.0), 2.0))

    def _drift(self) -> None:
        """What was known has aged: by a common factor, and each on its own, up to a bound."""
        together = sqrt(TOGETHER * self._haste * self._elapsed)
        drifts = [together * each for each in self.coefficients]
        covariance = list(map(add, self._covariance, _product(drifts)))
        for i, scale in enumerate(self._scales(_SMALL)):
            diagonal, square = i * (len(drifts) + 1), scale * scale
            if covariance[diagonal] < APART**2 * square:
                covariance[diagonal] += OWN * self._elapsed * square
        self._covariance = covariance
        self._elapsed = 0.0

    def _project(self) -> None:
        found = self.coefficients
        for _ in range(len(found)):
            lowest = min(found)
            if lowest >= 0.0:
                break
            i = found.index(lowest)
            line = self._covariance[i * len(found) : (i + 1) * len(found)]
            share = lowest / max(line[i], _TINY**2)
            found = [each - share * value for each, value in zip(found, line, strict=True)]
            found[i] = 0.0
        self.coefficients = [max(0.0, each) for each in found]

    def _adapt(self, off: float) -> None:
        """Find the pace of the drift; `off` is the error over what it was expected to be."""
        haste = self._haste * (1.0 + _PATIENCE * off * self._last)
        self._haste = min(max(haste, 1.0), HASTIEST)
        self._last = off

    def _scales(self, least: float) -> list[float]:
        found = self.coefficients
        floor = max(least * sum(found) / len(found), _TINY)
        return [each if each > floor else floor for each in found]  # noqa: FURB136 - half the time


def _product(vector: Sequence[float]) -> list[float]:
    """The outer product of a vector with itself, line after line."""
    return [one * other for one in vector for other in vector]
