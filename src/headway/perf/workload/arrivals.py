"""When requests arrive: endless streams of times, in seconds after the first request.

Like a length distribution, an arrival process is a function of a random number generator. `rng`
makes one per seed and purpose, so that other arrivals leave the lengths as they were and two
systems are compared on the same requests. Gamma gaps and ramps follow vLLM's benchmark, so that its
flags mean the same here.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from itertools import count, repeat
from random import Random
from typing import Literal


def rng(seed: int, purpose: str) -> Random:
    """The generator for this purpose; the same on every machine and in every process."""
    return Random(f"{seed} {purpose}")  # noqa: S311


Arrivals = Callable[[Random], Iterator[float]]
"""Times that never fall, the first one 0."""

Growth = Literal["linear", "exponential"]


def at_once(_random: Random) -> Iterator[float]:
    """All at the start."""
    return repeat(0.0)


def poisson(rate: float) -> Arrivals:
    """So many requests a second on average, each independent of the others."""
    return gamma(rate, 1.0)


def gamma(rate: float, burstiness: float) -> Arrivals:
    """So many requests a second on average, the gaps between them gamma distributed.

    `burstiness` is the shape: 1 is Poisson, less comes in bursts, more is more regular, infinite is
    even. (The gaps' standard deviation is their mean over the square root of it.)
    """
    _check_positive("rate", rate)
    _check_positive("burstiness", burstiness)
    if math.isinf(rate):
        return at_once
    return lambda random: _cumulated(_gap(random, rate, burstiness) for _ in repeat(None))


def ramp(
    start: float,
    end: float,
    requests: int,
    growth: Growth = "linear",
    burstiness: float = 1.0,
) -> Arrivals:
    """From `start` to `end` requests a second over so many requests, then on at `end`."""
    _check_positive("first rate", start)
    _check_positive("last rate", end)
    _check_positive("burstiness", burstiness)
    if math.isinf(start) or math.isinf(end):
        raise ValueError("a ramp's rates are finite")
    last = max(1, requests - 1)

    def rate(index: int) -> float:
        progress = min(1.0, index / last)
        if growth == "linear":
            return start + (end - start) * progress
        return start * math.pow(end / start, progress)

    return lambda random: _cumulated(_gap(random, rate(index), burstiness) for index in count())


def _gap(random: Random, rate: float, burstiness: float) -> float:
    if math.isinf(burstiness):
        return 1 / rate
    return random.gammavariate(burstiness, 1 / (rate * burstiness))


def _cumulated(gaps: Iterator[float]) -> Iterator[float]:
    now = 0.0
    while True:
        yield now
        now += next(gaps)


def _check_positive(name: str, number: float) -> None:
    if not number > 0:
        raise ValueError(f"{name} is above 0, not {number:g}")
