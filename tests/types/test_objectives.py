"""Objectives: their text forms, and errors that name the flag."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headway.errors import InvalidRequest
from headway.types.objectives import (
    METRICS,
    MOST_SECONDS,
    Objective,
    bounds_of,
    checked_objectives,
    pace_of,
    parse_goodput,
    parse_objectives,
    with_defaults,
)


def test_objectives_are_read_with_percentile_and_unit() -> None:
    assert parse_objectives("ttft_p99=1s,tpot_p99=50ms, e2el=2min,itl_p99.9=0.2 s") == (
        Objective(metric="ttft", percentile=99, seconds=1.0),
        Objective(metric="tpot", percentile=99, seconds=0.05),
        Objective(metric="e2el", percentile=None, seconds=120.0),
        Objective(metric="itl", percentile=99.9, seconds=0.2),
    )


def test_goodput_pairs_are_milliseconds_for_every_request() -> None:
    assert parse_goodput(["ttft:500", "tpot:12.5"]) == (
        Objective(metric="ttft", seconds=0.5),
        Objective(metric="tpot", seconds=0.0125),
    )


@pytest.mark.parametrize(
    ("objective", "text"),
    [
        (Objective(metric="ttft", percentile=99, seconds=1), "ttft_p99=1s"),
        (Objective(metric="tpot", percentile=99.9, seconds=0.05), "tpot_p99.9=50ms"),
        (Objective(metric="itl", seconds=0.0015), "itl=1.5ms"),
        (Objective(metric="e2el", seconds=120), "e2el=2min"),
        (Objective(metric="e2el", seconds=90), "e2el=90s"),
    ],
)
def test_an_objective_is_written_as_people_would(objective: Objective, text: str) -> None:
    assert str(objective) == text


@given(
    st.sampled_from(METRICS),
    st.none() | st.floats(min_value=0.001, max_value=100),
    st.floats(min_value=1e-9, max_value=MOST_SECONDS),
)
def test_what_is_written_is_read_as_the_same(
    metric: str, percentile: float | None, seconds: float
) -> None:
    (bare,) = parse_objectives(f"{metric}=1s")
    objective = Objective(metric=bare.metric, percentile=percentile, seconds=seconds)
    assert parse_objectives(str(objective)) == (objective,)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "no objective"),
        ("ttft", "no objective"),
        ("ttft=", "no objective"),
        ("ttft=5", "no objective"),
        ("ttft=5 h", "no objective"),
        ("ttft_p99=1s,", "no objective"),
        ("speed=1s", "'speed' is not measured; there are ttft, tpot, itl, e2el"),
        ("ttft_p0=1s", "percentiles"),
        ("ttft_p101=1s", "percentiles"),
        ("ttft_p9.9.9=1s", "not a number"),
        ("ttft=0s", "above 0"),
        ("ttft=1e999s", "at most 2592000 s"),
        ("ttft=2592001s", "at most 2592000 s"),
        ("ttft_p99=1s,ttft_p99=2s", "bound the same time"),
    ],
)
def test_anything_else_is_an_error_that_names_the_flag(text: str, reason: str) -> None:
    with pytest.raises(InvalidRequest, match=reason) as caught:
        parse_objectives(text)
    assert caught.value.field == "--slo"
    assert "--slo" in caught.value.message


@pytest.mark.parametrize(
    ("part", "reason"),
    [
        ("ttft", "no pair"),
        ("ttft:fast", "'fast' is not a number"),
        ("speed:5", "not measured"),
        ("ttft:-5", "above 0"),
        ("ttft:nan", "above 0"),
    ],
)
def test_a_bad_goodput_pair_is_an_error_that_names_the_flag(part: str, reason: str) -> None:
    with pytest.raises(InvalidRequest, match=reason) as caught:
        parse_goodput(["tpot:5", part])
    assert caught.value.field == "--goodput"


def test_two_percentiles_of_one_metric_are_two_objectives() -> None:
    assert len(parse_objectives("ttft_p50=200ms,ttft_p99=1s")) == 2


def test_a_single_request_is_held_to_the_longest_time_and_planned_for_the_shortest() -> None:
    asked = parse_objectives("ttft_p50=200ms,ttft_p99=1s,tpot=50ms")
    assert bounds_of(asked) == {"ttft": 1.0, "tpot": 0.05}
    assert (pace_of(asked).ttft, pace_of(asked).tpot) == (0.2, 0.05)
    assert bounds_of(()) == {}


def test_own_objectives_replace_the_defaults_for_their_metrics_alone() -> None:
    defaults = parse_objectives("ttft_p50=200ms,ttft_p99=1s,tpot_p99=50ms")
    own = parse_objectives("ttft=3s,e2el=9s")
    assert with_defaults(own, defaults) == (*own, defaults[2])
    assert with_defaults((), defaults) == defaults
    assert with_defaults(own, ()) == own


def test_objectives_from_python_are_text_or_data() -> None:
    ttft = Objective(metric="ttft", percentile=99, seconds=1.0)
    assert checked_objectives("ttft_p99=1s") == checked_objectives([ttft]) == (ttft,)
    assert checked_objectives(()) == ()


@pytest.mark.parametrize(
    "wrong",
    [
        Objective(metric="speed", seconds=1.0),  # type: ignore[arg-type]
        Objective(metric="ttft", seconds=0.0),
        Objective(metric="ttft", seconds=float("nan")),
        Objective(metric="ttft", seconds=MOST_SECONDS + 1),
        Objective(metric="ttft", percentile=0.0, seconds=1.0),
        Objective(metric="tpot", seconds=1.0),
    ],
)
def test_data_that_are_no_objectives_are_refused(wrong: Objective) -> None:
    with pytest.raises(InvalidRequest) as caught:
        checked_objectives([Objective(metric="tpot", seconds=2.0), wrong])
    assert caught.value.field == "objectives"
