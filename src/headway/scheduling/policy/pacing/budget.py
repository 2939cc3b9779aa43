"""How long a step may be: what is left until the tokens are due of those that decode."""

from __future__ import annotations

import math
from collections.abc import Sequence

LONGEST_GAP = 4
"""Times the pace of the most demanding stream: no step is longer, however far ahead streams are."""
HOPELESS = 10
"""A stream that is so many tokens behind holds nobody up any more."""
WORTH_A_STEP = 10
"""Times the smallest step: so long is one of which the fixed part matters little."""

Dues = Sequence[tuple[float, float]]
"""Of streams: seconds until the next token is due, and seconds between two of them."""


def most_demanding(dues: Dues) -> float:
    """The least seconds between tokens that any of the streams allows; infinite without any."""
    return min([pace for _, pace in dues], default=math.inf)


def time_budget(dues: Dues, base: float) -> float:
    """Seconds that a step may take in which the decodes alone take `base` seconds.

    Infinite where no token is due.
    """
    budget = min(dues, default=(math.inf, math.inf))[0]
    if budget < base:
        budget = _behind(dues, base)
    return min(budget, max(base, LONGEST_GAP * most_demanding(dues)))


def _behind(dues: Dues, base: float) -> float:
    """The same, where `base` is too long for some."""
    budget = math.inf
    for left, pace in dues:
        if left >= base:
            budget = min(budget, left)
        elif left > 0:
            budget = min(budget, base)  # the least that can be done for it
        elif left > -HOPELESS * pace:
            # It is behind, and catches up with half of what the others leave.
            budget = min(budget, base + max(0.0, pace - base) / 2)
    return budget


def budget_without_decodes(ttft: float, least: float) -> float:
    """Seconds of a step in which nobody waits for a next token: several fit into the shortest time
    to a first token that is asked for, `ttft`, so that prompts end one after the other, and its
    fixed part is a small part of it. `least` is what the smallest step takes."""
    short = WORTH_A_STEP * least
    return max(min(max(ttft / 8, short), ttft / 2, 2 * short), 2 * least)
