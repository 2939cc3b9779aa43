"""What is asked of, and told by, a program that compares the forms of one model token by token.

Plain data, as JSON on the program's standard input and output, so that whoever asks needs no
runner. Sums are over all tokens scored so far.
"""

from __future__ import annotations

from dataclasses import dataclass

from headway.config import EngineConfig


@dataclass(frozen=True, slots=True, kw_only=True)
class QualityCandidate:
    """A prepared model's folder, and the settings to run it with."""

    prepared: str
    config: EngineConfig


@dataclass(frozen=True, slots=True, kw_only=True)
class QualityComparison:
    """What to compare: the first candidate is what all are measured by."""

    candidates: tuple[QualityCandidate, ...]
    contexts: tuple[tuple[int, ...], ...]
    """Tokens; each but the first of a context is to be predicted from those before it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Totals:
    """Sums of one candidate."""

    loss: float = 0.0
    """Negative log-likelihood of the tokens, in nats."""
    divergence: float = 0.0
    """Kullback-Leibler divergence from the first candidate's distributions, in nats."""
    agreement: int = 0
    """Tokens for which both find the same one likeliest."""

    def plus(self, other: Totals) -> Totals:
        return Totals(
            loss=self.loss + other.loss,
            divergence=self.divergence + other.divergence,
            agreement=self.agreement + other.agreement,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class QualityProgress:
    """The state after some contexts; one is written after each, the last one is the result."""

    contexts: int
    tokens: int
    totals: tuple[Totals, ...]
    error: str = ""
    """Why the comparison ended early, if it did."""
