"""Explanations: what limits, what it costs, and what cannot be held."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headway.steptime.causes import cause_of
from headway.steptime.explanation import (
    Explanation,
    LimitingFactor,
    Situation,
    explain,
    limiting_factor_of,
    longest_within,
    round_amount,
    step_limit,
    ttft_floor,
    unheld_at_best,
)
from headway.steptime.margins import BoundedModel
from headway.types import Limits
from headway.types.objectives import Pace, pace_of, parse_objectives
from headway.types.traffic import Traffic
from tests.steptime.test_sizing import CHAT, Linear, models, traffics

LIMITS = Limits(
    max_num_seqs=256, max_num_batched_tokens=2048, max_num_partial_prefills=1, max_model_len=8192
)
ROOM = Situation(times=Linear(), traffic=CHAT, kv_tokens=10**6, limits=LIMITS)


def asked(text: str, rate: float | None = None, situation: Situation = ROOM) -> Situation:
    pace = pace_of(parse_objectives(text)) if text else Pace()
    return replace(situation, traffic=replace(situation.traffic, rate=rate, pace=pace))


def price(found: Explanation, factor: LimitingFactor, *, less: bool = False) -> float:
    (gain,) = (p.gain for p in found.prices if p.factor == factor and (p.change < 0) == less)
    return gain


SLOW_FIXED = replace(ROOM, times=Linear(fixed=0.5))
"""A machine on which wide batches pay: most of a step's time is there whatever its width."""
CASES: dict[LimitingFactor, Situation] = {
    "arrivals": asked("tpot=50ms", rate=1.0),
    "objective": asked("tpot=650ms", rate=1000.0, situation=SLOW_FIXED),
    "memory": asked("", rate=1000.0, situation=replace(SLOW_FIXED, kv_tokens=50 * 1100)),
    "limit": asked("", rate=1000.0, situation=SLOW_FIXED),
    "compute": asked("", rate=1000.0, situation=replace(ROOM, times=Linear(fixed=0.001))),
}


@pytest.mark.parametrize(("factor", "situation"), CASES.items())
def test_each_factor_is_named_where_it_limits(factor: LimitingFactor, situation: Situation) -> None:
    assert explain(situation).limiting_factor == factor
    assert limiting_factor_of(situation) == factor


def test_without_a_rate_nothing_is_said_of_arrivals() -> None:
    found = explain(asked("tpot=50ms"))
    assert (found.load, found.widths.arrivals, found.lowest_tpot_at_rate) == (None, None, None)
    assert found.batch == found.width


def test_what_limits_has_a_price_and_the_rest_has_none() -> None:
    found = explain(CASES["memory"])
    assert price(found, "memory") > 0.5
    assert price(found, "limit") == 0
    found = explain(CASES["limit"])
    assert price(found, "limit") > 0.2
    assert price(found, "memory") == 0
    found = explain(CASES["objective"])
    assert price(found, "objective") > 0.2
    assert price(found, "objective", less=True) < -0.2
    assert price(found, "memory") == 0


def test_the_price_is_what_the_change_would_give() -> None:
    """100 ms more for a step: the capacity with this objective over the capacity with that."""
    before, after = (
        explain(CASES["objective"]),
        explain(asked("tpot=750ms", rate=1000.0, situation=SLOW_FIXED)),
    )
    (more,) = (p for p in before.prices if p.factor == "objective" and p.change > 0)
    assert more.change == 0.1
    gain = after.requests_per_second / before.requests_per_second - 1
    assert more.gain == pytest.approx(gain)


def test_the_limit_that_is_reached_first_is_named() -> None:
    found = explain(ROOM)
    # A step of 256 answers has 255 decodes and 1280 tokens of prompts.
    assert (found.limit_setting, found.width) == ("max_num_seqs", 256)
    tokens = explain(replace(ROOM, limits=replace(LIMITS, max_num_batched_tokens=600)))
    assert tokens.limit_setting == "max_num_batched_tokens"
    assert tokens.width == pytest.approx(100, abs=1)
    assert tokens.step_tokens == pytest.approx(600, abs=3)


def test_the_lowest_tpot_at_the_present_rate() -> None:
    found = explain(asked("tpot=50ms", rate=3.0))
    assert found.lowest_tpot < (found.lowest_tpot_at_rate or 0) < 0.05
    assert found.load == pytest.approx(3.0 / found.requests_per_second)
    # More than the machine can serve at any pace; then, more than memory holds answers for.
    assert explain(asked("tpot=50ms", rate=1000.0)).lowest_tpot_at_rate is None
    narrow = replace(ROOM, kv_tokens=2 * 1100)
    assert explain(asked("tpot=50ms", 3.0, narrow)).lowest_tpot_at_rate is None


def test_the_tightest_of_all_bounds_is_that_of_a_step() -> None:
    assert step_limit(asked("")) == (None, math.inf)
    assert step_limit(asked("tpot=50ms,itl=80ms")) == ("tpot", 0.05)
    assert step_limit(asked("tpot=50ms,itl=40ms")) == ("itl", 0.04)
    metric, seconds = step_limit(asked("tpot=50ms,e2el=5s"))
    first = ttft_floor(ROOM.times, LIMITS, 1000)
    assert metric == "e2el"
    assert seconds == pytest.approx((5 - first) / 199)
    alone = asked("tpot=50ms", situation=replace(ROOM, traffic=replace(CHAT, output=1.0)))
    assert step_limit(alone) == (None, math.inf)


def test_what_cannot_be_held_comes_with_the_nearest_that_can() -> None:
    """On this machine a lone decode takes 1.25 * 10.21 ms, and the mean prompt 37.5 ms."""
    wanted = parse_objectives("tpot_p99=12ms,itl=13ms,ttft_p99=37ms,e2el=10s")
    found = explain(asked("tpot_p99=12ms,ttft_p99=37ms"), wanted)
    told = {each.asked: each.nearest for each in found.unheld}
    assert told == {"tpot_p99=12ms": "tpot_p99=13ms", "ttft_p99=37ms": "ttft_p99=38ms"}
    again = ",".join(told.values())
    assert explain(asked(again), parse_objectives(again)).unheld == ()
    assert (found.widths.objective, found.limiting_factor) == (0.0, "objective")


def test_the_easiest_request_decides_before_there_is_traffic() -> None:
    wanted = parse_objectives("tpot=5ms,ttft=1ms,e2el=1s")
    told = [each.asked for each in unheld_at_best(wanted, ROOM.times, LIMITS)]
    assert told == ["tpot=5ms", "ttft=1ms"]
    assert list(unheld_at_best(parse_objectives("ttft=37ms"), ROOM.times, LIMITS)) == []


def test_the_longest_prompt_within_an_objective() -> None:
    found = longest_within(ROOM.times, LIMITS, 0.0375)
    assert found == 1000
    assert longest_within(ROOM.times, LIMITS, 0.001) == 0
    assert longest_within(ROOM.times, LIMITS, 60.0) == LIMITS.max_model_len - 1


def test_the_token_budget_is_what_the_step_limit_leaves() -> None:
    times = Linear(margin=1.0, position=0.0)
    situation = asked("tpot=20ms", rate=None, situation=replace(ROOM, times=times))
    found = explain(replace(situation, traffic=replace(situation.traffic, rate=1.0)))
    decodes = math.ceil(max(1.0, found.batch) * 199 / 200)
    assert found.token_budget == pytest.approx(
        decodes + (0.02 - 0.01 - decodes * 1e-4) / 2e-5, abs=3
    )
    assert explain(asked("")).token_budget == LIMITS.max_num_batched_tokens
    # Prompts must get on whatever the objective says.
    assert explain(asked("tpot=1ms")).token_budget == 2


@pytest.mark.parametrize(
    ("number", "amount"), [(0.0125, 0.01), (0.05, 0.05), (0.049, 0.02), (1.0, 1.0), (7.0, 5.0)]
)
def test_amounts_are_round(number: float, amount: float) -> None:
    assert round_amount(number) == pytest.approx(amount)


@given(models(), traffics(), st.floats(1e-3, 5), st.integers(2, 10**6), st.integers(2, 512))
def test_more_room_never_means_less(
    times: BoundedModel, traffic: Traffic, tpot: float, tokens: int, seqs: int
) -> None:
    limits = replace(LIMITS, max_num_seqs=seqs)
    pace = Pace(tpot=tpot)
    base = Situation(
        times=times, traffic=replace(traffic, pace=pace), kv_tokens=tokens, limits=limits
    )
    found = explain(base)
    assert all(p.gain >= 0 for p in found.prices if p.change > 0)
    assert all(p.gain <= 0 for p in found.prices if p.change < 0)
    looser = replace(base, traffic=replace(traffic, pace=Pace(tpot=1.3 * tpot)))
    for more in (
        looser,
        replace(base, kv_tokens=2 * tokens),
        replace(base, limits=replace(limits, max_num_seqs=seqs + 7)),
    ):
        wider = explain(more)
        assert wider.width >= found.width
        assert wider.requests_per_second >= found.requests_per_second
    assert found == explain(base)


@given(models(), traffics(), st.floats(1e-3, 5), st.floats(0.01, 100))
def test_a_step_of_the_batch_keeps_what_can_be_kept(
    times: BoundedModel, traffic: Traffic, tpot: float, rate: float
) -> None:
    asking = replace(traffic, pace=Pace(tpot=tpot), rate=rate)
    found = explain(Situation(times=times, traffic=asking, kv_tokens=10**6, limits=LIMITS))
    if found.step_limit is not None and found.lowest_tpot <= tpot:
        assert found.step_bound <= tpot * (1 + 1e-9)
    assert found.batch <= found.width
    assert (found.limiting_factor == "arrivals") == (
        found.widths.arrivals is not None and found.widths.arrivals <= found.width
    )


CHANGES: dict[str, tuple[Situation, Situation]] = {
    "requests a second": (CASES["arrivals"], asked("tpot=50ms", rate=1000.0)),
    "the pace asked for": (
        asked("", rate=3.0),
        asked("tpot=14ms", rate=3.0),
    ),
    "KV cache tokens": (CASES["limit"], CASES["memory"]),
    "answer tokens": (
        asked("", rate=3.0),
        asked("", rate=3.0, situation=replace(ROOM, traffic=replace(CHAT, output=2000.0))),
    ),
    "the seconds of a step": (
        asked("", rate=3.0),
        asked("", rate=3.1, situation=replace(ROOM, times=Linear(decode=0.01))),
    ),
}


@pytest.mark.parametrize(("what", "change"), CHANGES.items())
def test_a_cause_is_what_undoes_the_change(what: str, change: tuple[Situation, Situation]) -> None:
    before, after = change
    old = limiting_factor_of(before)
    assert limiting_factor_of(after) != old
    cause = cause_of(before, after, old)
    assert cause is not None
    assert cause.what == what
    assert limiting_factor_of(cause.undone) == old


def test_a_larger_change_that_undoes_nothing_is_no_cause() -> None:
    """The memory grew tenfold, but for the rate, which trebled, arrivals limit no more."""
    before = asked("", rate=6.0)
    after = replace(asked("", rate=20.0), kv_tokens=10 * ROOM.kv_tokens)
    cause = cause_of(before, after, "arrivals")
    assert cause is not None
    assert str(cause) == "requests a second went from 6 to 20"


def test_without_a_change_there_is_no_cause() -> None:
    assert cause_of(ROOM, ROOM, "arrivals") is None
