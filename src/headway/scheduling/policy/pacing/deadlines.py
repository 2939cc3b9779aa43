"""Deadlines of tokens: when the next one of a sequence is due, and how long a step may take.

The first token is due `ttft` after the arrival, each further one `tpot` after the one before it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

from headway.scheduling.policy.base import SequenceView

EXPECTED_OUTPUT = 128.0
"""Tokens of an answer, to spread the time of a whole answer over them."""


def first_token_due(seq: SequenceView, patience: float) -> float:
    """When the first token is due, in clock seconds.

    With no objective that says so, `patience` seconds after the arrival: nobody waits for ever.
    """
    pace = seq.pace
    if pace.ttft < math.inf:
        return seq.arrival + pace.ttft
    return seq.arrival + min(patience, pace.e2el / 2)


def token_seconds(seq: SequenceView) -> float:
    """The seconds that the sequence allows for a token after its first, on average."""
    pace = seq.pace
    if pace.only_pace:
        return pace.tpot
    return min(pace.tpot, pace.itl, pace.e2el / 2 / EXPECTED_OUTPUT)


def slack(seq: SequenceView, now: float) -> float:
    """Seconds until the next token of a decoding sequence is due; negative where it is overdue."""
    pace = seq.pace
    found = seq.due - now
    if pace.only_pace:
        return found
    if pace.e2el < math.inf:
        # What is left of the time, shared by as many tokens as there were, or as are expected.
        left = max(EXPECTED_OUTPUT - seq.generated, seq.generated / 2, 1.0)
        found = min(found, (seq.arrival + pace.e2el - now) / left)
    return min(found, pace.itl)


def token_dues(decoding: Iterable[SequenceView], now: float) -> list[tuple[float, float]]:
    """Of those that are no best effort: `slack` and `token_seconds` of each."""
    dues = []
    for seq in decoding:
        pace = seq.pace
        if seq.late or not pace.any:
            continue
        if pace.only_pace:  # Mostly; it spares hundreds of calls in every step.
            dues.append((seq.due - now, pace.tpot))
        else:
            dues.append((slack(seq, now), token_seconds(seq)))
    return dues


def best_effort(seq: SequenceView) -> bool:
    """Whether there is no deadline that it could still keep, or none at all."""
    return seq.late or not seq.pace.any
