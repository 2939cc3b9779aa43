"""Deadlines of tokens: when the next one of a sequence is due, and how long a step may take.

The first token is due `ttft` after the arrival, each further one `tpot` after the one before it,
counted from when the first token really came, if that was in time: a TTFT that was not used up is
no reason to be slow later, since TPOT is measured from the first token on.
"""

from __future__ import annotations

import math

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
    return min(pace.tpot, pace.itl, pace.e2el / 2 / EXPECTED_OUTPUT)


def slack(seq: SequenceView, now: float) -> float:
    """Seconds until the next token of a decoding sequence is due; negative where it is overdue."""
    pace = seq.pace
    found = pace.itl
    first = seq.first_token_at
    if first is None:
        return found
    made = seq.generated - seq.resumed
    if pace.tpot < math.inf:
        anchor = min(first, seq.arrival + pace.ttft)
        found = min(found, anchor + made * pace.tpot - now)
    if pace.e2el < math.inf:
        # What is left of the time, shared by as many tokens as there were, or as are expected.
        left = max(EXPECTED_OUTPUT - made, made / 2, 1.0)
        found = min(found, (seq.arrival + pace.e2el - now) / left)
    return found


def best_effort(seq: SequenceView) -> bool:
    """Whether there is no deadline that it could still keep, or none at all."""
    return seq.late or not seq.pace.any
