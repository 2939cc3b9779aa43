"""The batch size explained: what binds it, what that costs, and what no batch can hold.

Plain data, made by `explain` from a step-time model, the traffic, the objectives, the memory and
the limits; a server, a command and a log line show the same. What is counted as holding an
objective is the model's bound on a step rather than the expected time.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Literal, get_args

from headway.steptime.sizing import Curve, Predictor, curve_of, prefill_seconds, steady_step
from headway.types import Limits
from headway.types.objectives import Metric, Objective, Pace
from headway.types.traffic import Traffic

LimitingFactor = Literal["objective", "memory", "limit", "compute", "arrivals"]
"""What may bind the batch: the pace that is asked for, the KV cache, a setting's limit, the
machine's arithmetic, which serves no more however wide the batch, or that no more requests come."""
LIMITING_FACTORS: tuple[LimitingFactor, ...] = get_args(LimitingFactor)
LimitSetting = Literal["max_num_seqs", "max_num_batched_tokens"]
_STEPS = (1.0, 2.0, 5.0, 10.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Situation:
    """All that the size of a batch follows from."""

    times: Predictor
    traffic: Traffic
    kv_tokens: int
    limits: Limits

    @property
    def pace(self) -> Pace:
        return self.traffic.pace


@dataclass(frozen=True, slots=True, kw_only=True)
class Widths:
    """How many answers at once each factor allows; None where it bounds nothing."""

    objective: float | None
    memory: float
    limit: float
    compute: float
    """Beyond it a wider batch serves hardly more."""
    arrivals: float | None
    """As many as serve what comes; None where more comes than can be served, or nothing is known
    of it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Price:
    """What changing one factor would do to the requests a second that can be served."""

    factor: LimitingFactor
    change: float
    """Of the step limit in seconds, of the KV cache in tokens, or of `limit_setting`."""
    gain: float
    """Relative: 0.1 is a tenth more; negative where the change costs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Unheld:
    """An objective that no batch can hold, and the nearest that one can."""

    asked: str
    nearest: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """Why the batch is as large as it is. Times in seconds, lengths in tokens."""

    limiting_factor: LimitingFactor
    metric: Metric | None
    """Which objective bounds a step's time; None where none does."""
    step_limit: float | None
    """The time that it allows for a step."""
    limit_setting: LimitSetting
    """Of the limits, the one that is reached first."""
    width: float
    """The widest batch that objective, memory and limits allow; below 1, one answer at a time."""
    widths: Widths
    batch: float
    """How many answers are under way on average: what arrivals need, within the width."""
    step_seconds: float
    """Expected time of a step of this batch."""
    step_bound: float
    """Time that few of them exceed."""
    step_tokens: float
    """Mean new tokens in it."""
    token_budget: int
    """The most new tokens that a step may have beside the decodes of this batch."""
    requests_per_second: float
    """That the widest batch serves in a steady state."""
    tokens_per_second: float
    """Generated."""
    load: float | None
    """Requests that come over those that can be served; None where it is not known."""
    lowest_tpot: float
    """That any batch can hold: one answer alone."""
    lowest_tpot_at_rate: float | None
    """That holds for what comes; None where more comes than can be served, or it is not known."""
    ttft_mean: float
    """Of a mean prompt that has the machine to itself."""
    ttft_longest: float
    """Of the longest prompt, likewise."""
    longest: int
    """Tokens of that prompt."""
    prices: tuple[Price, ...]
    unheld: tuple[Unheld, ...]


def explain(situation: Situation, objectives: Iterable[Objective] = ()) -> Explanation:
    """The explanation; `objectives` are those of which it says whether they can be held.

    Deterministic; some milliseconds.
    """
    traffic, limits = situation.traffic, situation.limits
    curve = curve_of(situation.times, traffic, limits.max_num_batched_tokens)
    metric, allowed = step_limit(situation)
    found = widths_of(situation, curve, allowed)
    width = widest(found)
    needed = found.arrivals
    batch = width if needed is None else min(width, needed)
    served = curve.rate_at(width)
    longest = traffic.longest or limits.max_model_len - 1
    held = needed is not None and needed <= min(found.memory, found.limit)
    return Explanation(
        limiting_factor=limiting_factor(found),
        metric=metric,
        step_limit=None if math.isinf(allowed) else allowed,
        limit_setting=_limit_setting(limits, curve),
        width=width,
        widths=found,
        batch=batch,
        step_seconds=curve.seconds_at(batch),
        step_bound=curve.bound_at(batch),
        step_tokens=curve.tokens_at(batch),
        token_budget=token_budget(situation, batch, allowed),
        requests_per_second=served,
        tokens_per_second=served * traffic.output,
        load=None if traffic.rate is None else traffic.rate / served,
        lowest_tpot=curve.bound_at(0.0),
        lowest_tpot_at_rate=curve.bound_at(needed) if held and needed is not None else None,
        ttft_mean=_mean_floor(situation),
        ttft_longest=ttft_floor(situation.times, limits, longest),
        longest=longest,
        prices=tuple(_prices(situation, curve, allowed, served)),
        unheld=tuple(unheld(objectives, situation)),
    )


def limiting_factor_of(situation: Situation) -> LimitingFactor:
    """What `explain` names, alone."""
    limits = situation.limits
    curve = curve_of(situation.times, situation.traffic, limits.max_num_batched_tokens)
    return limiting_factor(widths_of(situation, curve, step_limit(situation)[1]))


def step_limit(situation: Situation) -> tuple[Metric | None, float]:
    """The tightest bound on a step's seconds, and the objective that it comes from.

    An answer with a bound on its whole time has what the first token leaves of it for the others.
    """
    pace, traffic = situation.pace, situation.traffic
    if traffic.output <= 1:
        return None, math.inf
    bounds: dict[Metric, float] = {"tpot": pace.tpot, "itl": pace.itl}
    if pace.e2el < math.inf:
        left = max(0.0, pace.e2el - _mean_floor(situation))
        bounds["e2el"] = left / (traffic.output - 1)
    metric = min(bounds, key=lambda name: bounds[name])
    return (None, math.inf) if math.isinf(bounds[metric]) else (metric, bounds[metric])


def widths_of(situation: Situation, curve: Curve, allowed: float) -> Widths:
    """What each factor allows, where steps may take so many seconds; at least one answer."""
    traffic, limits = situation.traffic, situation.limits
    tokens = curve.within_tokens(limits.max_num_batched_tokens)
    return Widths(
        objective=None if math.isinf(allowed) else curve.within(allowed) or 0.0,
        memory=max(1.0, situation.kv_tokens / max(1.0, traffic.held)),
        limit=min(float(limits.max_num_seqs), tokens),
        compute=curve.saturated,
        arrivals=None if traffic.rate is None else curve.serving(traffic.rate),
    )


def token_budget(situation: Situation, width: float, allowed: float) -> int:
    """The most new tokens of a step that decodes a batch of this width within so many seconds.

    At least one token beside the decodes, whatever the objective says: prompts must get on.
    """
    times, traffic = situation.times, situation.traffic
    most = situation.limits.max_num_batched_tokens
    # The decodes of the steady state; how much of prompts goes with them is what is asked.
    decodes = steady_step(max(1.0, width), traffic, times.window).decodes
    low, high = min(most, decodes + 1), most

    def seconds(tokens: int) -> float:
        # The same step as if the prompts were so long that they bring just these tokens.
        brought = max(1.0, (tokens - decodes) * traffic.output / max(1.0, width))
        shape = steady_step(max(1.0, width), replace(traffic, prompt=brought), times.window)
        return times.bound(shape)

    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if seconds(middle) <= allowed else (low, middle - 1)
    return low


def ttft_floor(times: Predictor, limits: Limits, prompt: int, cached: int = 0) -> float:
    """Seconds to the first token of such a prompt with nobody else there."""
    chunk = limits.max_num_batched_tokens
    return prefill_seconds(times.bound, prompt, chunk, cached=cached, window=times.window)


def longest_within(times: Predictor, limits: Limits, seconds: float) -> int:
    """The longest prompt whose first token can be there in so many seconds; 0 where none can."""
    low, high = 0, limits.max_model_len - 1
    while low < high:
        middle = (low + high + 1) // 2
        kept = ttft_floor(times, limits, middle) <= seconds
        low, high = (middle, high) if kept else (low, middle - 1)
    return low


def unheld(objectives: Iterable[Objective], situation: Situation) -> Iterator[Unheld]:
    """Those that not even an answer alone keeps, with the nearest that it does keep."""
    traffic, times = situation.traffic, situation.times
    first = _mean_floor(situation)
    decoding = replace(traffic, output=max(2.0, traffic.output))
    lone = times.bound(steady_step(0.0, decoding, times.window))
    kept: dict[Metric, float] = {
        "ttft": first,
        "tpot": lone,
        "itl": lone,
        "e2el": first + (traffic.output - 1) * lone,
    }
    for objective in objectives:
        if objective.seconds < kept[objective.metric]:
            nearest = replace(objective, seconds=_rounded_up(kept[objective.metric]))
            yield Unheld(asked=str(objective), nearest=str(nearest))


def unheld_at_best(
    objectives: Iterable[Objective], times: Predictor, limits: Limits
) -> Iterator[Unheld]:
    """The same for the easiest request of all: a prompt of one token and an answer of one."""
    easiest = Traffic(prompt=1.0, output=1.0, context=1.0, held=1.0)
    room = limits.max_model_len
    return unheld(
        objectives, Situation(times=times, traffic=easiest, kv_tokens=room, limits=limits)
    )


def _mean_floor(situation: Situation) -> float:
    prompt, cached = situation.traffic.prompt, situation.traffic.cached
    return ttft_floor(situation.times, situation.limits, max(1, round(prompt)), round(cached))


def widest(found: Widths) -> float:
    """The width that objective, memory and limits allow."""
    hard = min(found.memory, found.limit)
    return hard if found.objective is None else min(hard, found.objective)


def limiting_factor(found: Widths) -> LimitingFactor:
    """Which of them binds: what would have to change for more to be served."""
    width = widest(found)
    if found.arrivals is not None and found.arrivals <= width:
        return "arrivals"
    if found.compute < width:
        return "compute"
    if found.objective is not None and found.objective <= width:
        return "objective"
    return "memory" if found.memory <= found.limit else "limit"


def _limit_setting(limits: Limits, curve: Curve) -> LimitSetting:
    tokens = curve.within_tokens(limits.max_num_batched_tokens)
    return "max_num_seqs" if limits.max_num_seqs <= tokens else "max_num_batched_tokens"


def _prices(situation: Situation, curve: Curve, allowed: float, served: float) -> Iterator[Price]:
    """A round amount more and less time for a step; twice the memory; twice the limit."""

    def price(factor: LimitingFactor, change: float, changed: Situation, seconds: float) -> Price:
        width = widest(widths_of(changed, curve, seconds))
        return Price(factor=factor, change=change, gain=curve.rate_at(width) / served - 1)

    if 0 < allowed < math.inf:
        step = round_amount(allowed / 4)
        for change in (step, -step):
            yield price("objective", change, situation, allowed + change)
    tokens, limits = situation.kv_tokens, situation.limits
    yield price("memory", tokens, replace(situation, kv_tokens=2 * tokens), allowed)
    setting = _limit_setting(limits, curve)
    value = getattr(limits, setting)
    wider = replace(situation, limits=replace(limits, **{setting: 2 * value}))
    yield price("limit", value, wider, allowed)


def round_amount(number: float) -> float:
    """The largest of 1, 2, 5, 10, 20, 50 ... (and 0.5, 0.2 ...) that is not above the number."""
    power = 10.0 ** math.floor(math.log10(number))
    return max(step * power for step in _STEPS if step * power <= number * (1 + 1e-9))


def _rounded_up(seconds: float) -> float:
    """To two digits, so that it reads well and is still kept."""
    power = 10.0 ** (math.floor(math.log10(seconds)) - 1)
    return float(f"{math.ceil(seconds / power * (1 - 1e-9)) * power:.6g}")
