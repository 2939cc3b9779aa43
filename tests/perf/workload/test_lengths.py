"""Laws of length: bounds, shapes, repeatability, and errors that name the field."""

from __future__ import annotations

from collections import Counter
from random import Random
from statistics import fmean, median, pstdev

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headway.errors import InvalidRequest
from headway.perf.workload.lengths import exponential, parse_lengths
from headway.perf.workload.workload import LONGEST


def draws(text: str, count: int = 4000) -> list[int]:
    random = Random(7)
    distribution = parse_lengths(text)
    return [distribution(random) for _ in range(count)]


@pytest.mark.parametrize("text", ["64", "fixed:64", " FIXED:64 "])
def test_a_fixed_length_is_always_the_same(text: str) -> None:
    assert set(draws(text, 50)) == {64}


def test_uniform_lengths_fill_their_range() -> None:
    counts = Counter(draws("uniform:3:6"))
    assert sorted(counts) == [3, 4, 5, 6]
    assert min(counts.values()) > 900


def test_exponential_lengths_have_their_mean_and_as_large_a_deviation() -> None:
    lengths = draws("exponential:100", 20_000)
    assert fmean(lengths) == pytest.approx(100.5, rel=0.03)
    assert pstdev(lengths) == pytest.approx(100, rel=0.03)


def test_a_capped_exponential_is_what_drawing_again_leaves() -> None:
    capped = draws("exponential:32:40", 20_000)
    random = Random(3)
    again: list[int] = []
    while len(again) < 20_000:
        length = round(random.expovariate(1 / 32))
        if 1 <= length <= 40:
            again.append(length)
    for p in (10, 25, 50, 75, 90):
        place = 20_000 * p // 100
        assert sorted(capped)[place] == pytest.approx(sorted(again)[place], abs=1.1)
    assert max(capped) == max(again) == 40
    # A minimum with the cap would have put more than a quarter of all lengths there.
    assert Counter(capped)[40] < 600


def test_a_cap_far_below_the_mean_is_drawn_at_once_and_nearly_uniform() -> None:
    counts = Counter(draws("exponential:1e6:2"))
    assert counts[1] == pytest.approx(2000, abs=150)
    assert counts[2] == pytest.approx(2000, abs=150)


def test_log_normal_lengths_have_their_median_and_a_long_tail() -> None:
    lengths = draws("lognormal:200:1", 20_000)
    assert median(lengths) == pytest.approx(200, rel=0.03)
    # The mean of a log-normal is its median times exp(sigma squared / 2).
    assert fmean(lengths) == pytest.approx(200 * 1.6487, rel=0.05)
    assert max(draws("lognormal:200:1:300")) <= 300


@given(
    st.one_of(
        st.builds("exponential:{}:{}".format, st.floats(1e-3, 1e6), st.integers(1, LONGEST)),
        st.builds("lognormal:{}:{}".format, st.floats(1, 1e6), st.floats(0.01, 10)),
        st.integers(1, LONGEST).map(lambda n: f"uniform:1:{n}"),
    ),
    st.integers(),
)
def test_lengths_keep_their_bounds_and_repeat_with_the_seed(text: str, seed: int) -> None:
    cap = int(text.split(":")[2]) if text.startswith("exp") else LONGEST
    first, second = Random(seed), Random(seed)
    lengths = [parse_lengths(text)(first) for _ in range(5)]
    assert all(1 <= length <= cap for length in lengths)
    assert lengths == [parse_lengths(text)(second) for _ in range(5)]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "invalid literal"),
        ("many", "invalid literal"),
        ("zipf:3", "no distribution 'zipf'"),
        ("0", "lengths are from 1"),
        ("fixed:1:2", "fixed does not take 2 numbers"),
        ("uniform:5", "uniform does not take 1 numbers"),
        ("uniform:6:5", "6 is more than 5"),
        ("uniform:0:5", "lengths are from 1"),
        ("exponential:0", "a mean is above 0"),
        ("exponential:nan", "a mean is above 0"),
        ("exponential:5:0", "lengths are from 1"),
        (f"exponential:5:{LONGEST + 1}", "lengths are from 1"),
        ("lognormal:5", "lognormal does not take 1 numbers"),
        ("lognormal:inf:1", "a median is above 0"),
        ("lognormal:5:0", "sigma"),
        ("lognormal:100000:0.1:5", "next to none"),
    ],
)
def test_anything_else_is_an_error_that_names_the_field(text: str, reason: str) -> None:
    with pytest.raises(InvalidRequest, match=reason) as caught:
        parse_lengths(text, field="--output-len")
    assert caught.value.field == "--output-len"
    assert "lognormal:MEDIAN:SIGMA" in caught.value.message


def test_the_published_experiment_is_a_distribution() -> None:
    random = Random(0)
    distribution = exponential(128, 1536)
    lengths = [distribution(random) for _ in range(20_000)]
    assert fmean(lengths) == pytest.approx(128.5, rel=0.03)
