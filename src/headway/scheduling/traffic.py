"""What traffic an engine has had lately, learned from its requests as they come and end.

Lengths are means over the last requests that ended, and the rate is that of the last minute. To
count costs next to nothing; the means are made when they are asked for.
"""

from __future__ import annotations

import math
from collections import Counter, deque
from operator import attrgetter
from typing import NamedTuple

from headway.types import Request
from headway.types.objectives import NO_PACE, Pace, pace_of
from headway.types.traffic import RATE_SECONDS, Traffic

WINDOW = 512
"""Over so many requests lengths and objectives are learned."""
FEW = 0.01
"""A pace that less than this share asks for does not count."""
_SHORTEST = 1.0
"""Seconds that are taken to have passed at least when a rate is made."""


class _Ended(NamedTuple):
    prompt: int
    cached: int
    generated: int
    shared: int


class TrafficEstimate:
    """Told of every arrival and end; times are those of the engine's clock, in seconds."""

    def __init__(self) -> None:
        self._ended: deque[_Ended] = deque(maxlen=WINDOW)
        self._paces: deque[Pace] = deque()
        self._asked: Counter[Pace] = Counter()
        """How many of them ask for each pace."""
        self._longest = 0
        self._arrivals = 0.0
        """Those that came, each weighted by how long ago that was."""
        self._first: float | None = None
        self._last = 0.0

    def arrived(self, request: Request) -> None:
        """A request came. One that an earlier engine had keeps the time at which it did."""
        at = request.arrival
        if self._first is None:
            self._first = self._last = at
        passed = max(0.0, at - self._last)
        self._arrivals = 1.0 + self._arrivals * math.exp(-passed / RATE_SECONDS)
        self._last += passed
        self._longest = max(self._longest, len(request.prompt))
        pace = pace_of(request.objectives) if request.objectives else NO_PACE
        self._paces.append(pace)
        self._asked[pace] += 1
        if len(self._paces) > WINDOW:
            oldest = self._paces.popleft()
            self._asked[oldest] -= 1
            if not self._asked[oldest]:
                del self._asked[oldest]

    def ended(self, *, prompt: int, cached: int, generated: int, shared: int) -> None:
        """A request ended that had generated tokens; all in tokens.

        `cached` of its prompt came from the prefix cache, and `shared` it shares with others now.
        """
        self._ended.append(_Ended(prompt, cached, generated, shared))

    def means(self, now: float) -> Traffic | None:
        """The traffic at this time; None before any request has ended."""
        ended = self._ended
        if not ended:
            return None
        count, generated = len(ended), sum(each.generated for each in ended)
        cached = sum(each.cached for each in ended) / count
        prompt = sum(each.prompt for each in ended) / count
        # Of every decode of an answer: the prompt, and half of the answer in the mean.
        context = sum(each.generated * (each.prompt + each.generated / 2) for each in ended)
        shared = sum(each.generated * each.shared for each in ended)
        return Traffic(
            prompt=max(1.0, prompt - cached),
            output=generated / count,
            context=context / generated,
            held=max(1.0, (context - shared) / generated),
            cached=cached,
            longest=self._longest,
            rate=self.rate(now),
            pace=self.pace(),
        )

    def rate(self, now: float) -> float:
        """Requests a second."""
        if self._first is None:
            return 0.0
        known = max(_SHORTEST, now - self._first)
        weight = RATE_SECONDS * -math.expm1(-known / RATE_SECONDS)
        return self._arrivals * math.exp(-max(0.0, now - self._last) / RATE_SECONDS) / weight

    def pace(self) -> Pace:
        """The tightest bound on each time that more than a few requests ask for.

        It stands for all traffic, however loose the rest is: in a batch everybody gets a token at
        the pace of the most demanding, and of some dozens one mostly is that.
        """
        least = FEW * len(self._paces)
        asked = self._asked

        def tightest(name: str) -> float:
            bound = attrgetter(name)
            total = 0
            for pace in sorted(asked, key=bound):
                total += asked[pace]
                if total > least:
                    return float(bound(pace))
            return math.inf

        return Pace(**{name: tightest(name) for name in ("ttft", "tpot", "itl", "e2el")})
