"""Objectives: how soon and how steadily answers are wanted, as text and as data.

An objective bounds a time that a client can measure: TTFT, TPOT, ITL or the latency of the whole
answer (e2el). With a percentile it asks that this share of the requests keeps the bound, without
one every request must. Knows nothing of how such times are measured, or who plans for them.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Literal, get_args

from headway.errors import InvalidRequest

Metric = Literal["ttft", "tpot", "itl", "e2el"]
"""To the first token; per token after it; between two tokens; to the end of the answer."""

METRICS: tuple[Metric, ...] = get_args(Metric)

MOST_SECONDS = 30 * 24 * 3600.0
"""The longest time that an objective may name."""

_UNITS = {"ms": 1e-3, "s": 1.0, "min": 60.0}
_NAME = re.compile(r"(?P<metric>[a-z0-9]+?)(?:_p(?P<percentile>[0-9.]+))?")
_TIME = re.compile(r"(?P<number>[0-9.]+(?:e[+-]?[0-9]+)?)\s*(?P<unit>[a-z]+)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Objective:
    """A bound on one time. `str()` writes it as `parse_objectives` reads it."""

    metric: Metric
    percentile: float | None = None
    """Share of requests that must keep the bound, above 0 up to 100; None: every one."""
    seconds: float
    """The bound, above 0."""

    def __str__(self) -> str:
        share = "" if self.percentile is None else f"_p{_plain(self.percentile)}"
        return f"{self.metric}{share}={_time(self.seconds)}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """What objectives ask of one answer, in seconds; infinite where they ask nothing."""

    ttft: float = math.inf
    tpot: float = math.inf
    itl: float = math.inf
    e2el: float = math.inf
    any: bool = field(init=False)
    """Whether anything is asked."""
    only_pace: bool = field(init=False)
    """Whether TTFT and TPOT are all that may be asked."""

    def __post_init__(self) -> None:
        # Kept rather than computed: a policy asks them of every sequence in every step.
        asked = min(self.ttft, self.tpot, self.itl, self.e2el) < math.inf
        object.__setattr__(self, "any", asked)
        object.__setattr__(self, "only_pace", self.itl == math.inf == self.e2el)


NO_PACE = Pace()


def pace_of(objectives: Iterable[Objective]) -> Pace:
    """The tightest bound on each time, whatever share of requests must keep it."""
    bounds: dict[str, float] = {}
    for objective in objectives:
        bounds[objective.metric] = min(
            objective.seconds, bounds.get(objective.metric, objective.seconds)
        )
    return Pace(**bounds) if bounds else NO_PACE


def bounds_of(objectives: Iterable[Objective]) -> dict[Metric, float]:
    """What a single request is held to: seconds by metric.

    Of several objectives for one metric the longest time counts: a median target is not one that a
    single request can miss.
    """
    longest: dict[Metric, float] = {}
    for objective in objectives:
        longest[objective.metric] = max(objective.seconds, longest.get(objective.metric, 0.0))
    return longest


def with_defaults(
    own: tuple[Objective, ...], defaults: tuple[Objective, ...]
) -> tuple[Objective, ...]:
    """`own`, and of the defaults those for other metrics."""
    if not own:
        return defaults
    named = {objective.metric for objective in own}
    return (*own, *(each for each in defaults if each.metric not in named))


def checked_objectives(
    given: str | Iterable[Objective], *, field: str = "objectives"
) -> tuple[Objective, ...]:
    """Objectives that Python code gives, as text or as data, where they can be ones.

    Raises `InvalidRequest`, with `field`, as `parse_objectives` does.
    """
    if isinstance(given, str):
        return parse_objectives(given, field=field)
    return _distinct(
        (_checked(o.metric, o.percentile, o.seconds, str(o), field) for o in given), field
    )


def parse_objectives(text: str, *, field: str = "--slo") -> tuple[Objective, ...]:
    """Objectives from text such as `ttft_p99=1s,tpot_p99=50ms`; units are ms, s and min.

    Raises `InvalidRequest`, with `field`, for anything else and for a time that is bounded twice.
    """
    return _distinct((_objective(part.strip(), field) for part in text.split(",")), field)


def parse_goodput(parts: Iterable[str], *, field: str = "--goodput") -> tuple[Objective, ...]:
    """Objectives from pairs such as `ttft:500`, in milliseconds, that every request must keep.

    Raises `InvalidRequest`, with `field`.
    """
    return _distinct((_pair(part.strip(), field) for part in parts), field)


def _objective(text: str, field: str) -> Objective:
    name, equals, bound = text.partition("=")
    named = _NAME.fullmatch(name.strip().lower())
    timed = _TIME.fullmatch(bound.strip().lower())
    if not equals or named is None or timed is None or timed["unit"] not in _UNITS:
        raise InvalidRequest(
            f"{field}: {text!r} is no objective; write METRIC=TIME or METRIC_pNN=TIME with a time "
            "in ms, s or min, such as ttft_p99=1s",
            field=field,
        )
    percentile = None if named["percentile"] is None else _number(named["percentile"], field)
    seconds = _seconds(_number(timed["number"], field), timed["unit"])
    return _checked(named["metric"], percentile, seconds, text, field)


def _pair(text: str, field: str) -> Objective:
    metric, colon, milliseconds = text.partition(":")
    if not colon:
        raise InvalidRequest(
            f"{field}: {text!r} is no pair METRIC:MILLISECONDS, such as ttft:500", field=field
        )
    seconds = _seconds(_number(milliseconds, field), "ms")
    return _checked(metric.lower(), None, seconds, text, field)


def _checked(
    metric: str, percentile: float | None, seconds: float, text: str, field: str
) -> Objective:
    if metric not in METRICS:
        raise InvalidRequest(
            f"{field}: {metric!r} is not measured; there are {', '.join(METRICS)}", field=field
        )
    if percentile is not None and not 0 < percentile <= 100:
        raise InvalidRequest(f"{field}: {text!r}: percentiles are above 0, up to 100", field=field)
    if not 0 < seconds <= MOST_SECONDS:
        raise InvalidRequest(
            f"{field}: {text!r}: the time must be above 0 and at most {MOST_SECONDS:.0f} s",
            field=field,
        )
    return Objective(metric=metric, percentile=percentile, seconds=seconds)


def _distinct(objectives: Iterable[Objective], field: str) -> tuple[Objective, ...]:
    found: dict[tuple[str, float | None], Objective] = {}
    for objective in objectives:
        other = found.setdefault((objective.metric, objective.percentile), objective)
        if other is not objective:
            raise InvalidRequest(
                f"{field}: {other} and {objective} bound the same time; keep one of them",
                field=field,
            )
    return tuple(found.values())


def _number(text: str, field: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise InvalidRequest(f"{field}: {text!r} is not a number", field=field) from None


def _seconds(number: float, unit: str) -> float:
    # Divided rather than multiplied: 50 / 1000 is the number nearest to 0.05, 50 * 0.001 is not.
    return number / 1000 if unit == "ms" else number * _UNITS[unit]


def _time(seconds: float) -> str:
    """Text that is read back as exactly this time."""
    if seconds >= 60 and seconds % 60 == 0:
        return f"{_plain(seconds / 60)}min"
    milliseconds = _plain(float(f"{seconds * 1000:.12g}"))
    if seconds < 1 and float(milliseconds) / 1000 == seconds:
        return f"{milliseconds}ms"
    return f"{_plain(seconds)}s"


def _plain(number: float) -> str:
    return repr(float(number)).removesuffix(".0")
