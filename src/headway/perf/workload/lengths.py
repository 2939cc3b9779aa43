"""Length distributions: how many tokens prompts and answers have, as text and as functions.

A distribution draws one length per call, at least 1 and at most `LONGEST`. A truncated one is drawn
as if whatever lies outside were drawn again, which leaves the shape within as it was; a simple
minimum would pile up answers at the cap.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from random import Random
from statistics import NormalDist

from headway.errors import InvalidRequest
from headway.perf.workload.workload import LONGEST

LengthDistribution = Callable[[Random], int]
"""Draws one length in tokens."""

SYNTAX = (
    "64 or fixed:64, uniform:16:64, exponential:MEAN or exponential:MEAN:CAP, "
    "lognormal:MEDIAN:SIGMA or lognormal:MEDIAN:SIGMA:CAP"
)

_RAREST = 1e-3
"""Least share of a log-normal distribution from 1 to its cap: with less, drawing takes forever."""


def parse_lengths(text: str, *, field: str = "length") -> LengthDistribution:
    """A distribution from text, see `SYNTAX`; raises `InvalidRequest` with `field` otherwise."""
    kind, *parameters = text.strip().lower().split(":")
    try:
        if not parameters:
            return fixed(int(kind))
        if kind not in _KINDS:
            raise ValueError(f"there is no distribution {kind!r}")
        make, convert = _KINDS[kind]
        if len(parameters) not in (len(convert), len(convert) - (kind in _CAPPED)):
            raise ValueError(f"{kind} does not take {len(parameters)} numbers")
        return make(*(c(p) for c, p in zip(convert, parameters, strict=False)))
    except ValueError as error:
        raise InvalidRequest(
            f"{field}: {text!r} is no length distribution ({error}); write {SYNTAX}", field=field
        ) from error


def fixed(tokens: int) -> LengthDistribution:
    """Always the same length."""
    _check_length(tokens)
    return lambda _random: tokens


def uniform(low: int, high: int) -> LengthDistribution:
    """Every length from `low` to `high`, both included, is as likely."""
    _check_length(low)
    _check_length(high)
    if low > high:
        raise ValueError(f"{low} is more than {high}")
    return lambda random: random.randint(low, high)


def exponential(mean: float, cap: int = LONGEST) -> LengthDistribution:
    """Exponential with this mean, rounded, drawn again until it is from 1 to `cap`.

    Without a cap the mean comes out about half a token higher, since zeros are drawn again.
    """
    _check_length(cap)
    if not 0 < mean <= LONGEST:
        raise ValueError(f"a mean is above 0, up to {LONGEST}, not {mean:g}")
    # In one draw: what is left of an exponential above one half is again exponential.
    within = -math.expm1(-cap / mean)

    def draw(random: Random) -> int:
        return min(cap, 1 + int(-mean * math.log1p(-random.random() * within)))

    return draw


def lognormal(median: float, sigma: float, cap: int = LONGEST) -> LengthDistribution:
    """Log-normal, rounded, drawn again until it is from 1 to `cap`."""
    _check_length(cap)
    if not 0 < median <= LONGEST:
        raise ValueError(f"a median is above 0, up to {LONGEST}, not {median:g}")
    if not 0 < sigma <= 10:
        raise ValueError(f"sigma is above 0, up to 10, not {sigma:g}")
    normal = NormalDist(math.log(median), sigma)
    share = normal.cdf(math.log(cap + 0.5)) - normal.cdf(math.log(0.5))
    if share < _RAREST:
        raise ValueError(f"next to none of its lengths are from 1 to {cap}")

    def draw(random: Random) -> int:
        while True:
            # An exponent above 20 would only overflow: it is far beyond any cap.
            tokens = round(math.exp(min(20.0, random.gauss(normal.mean, sigma))))
            if 1 <= tokens <= cap:
                return tokens

    return draw


def _check_length(tokens: int) -> None:
    if not 1 <= tokens <= LONGEST:
        raise ValueError(f"lengths are from 1 to {LONGEST}, not {tokens}")


_Convert = Callable[[str], float]

_KINDS: dict[str, tuple[Callable[..., LengthDistribution], tuple[_Convert, ...]]] = {
    "fixed": (fixed, (int,)),
    "uniform": (uniform, (int, int)),
    "exponential": (exponential, (float, int)),
    "lognormal": (lognormal, (float, float, int)),
}
_CAPPED = frozenset({"exponential", "lognormal"})
"""Those whose last number may be left out."""
