"""Percentiles: numpy's, of values and of counts, and with values that are infinite."""

from __future__ import annotations

import math
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headway.perf.records.summary import of_counts, of_values, percentile

VALUES = st.lists(st.integers(-1000, 1000), min_size=1, max_size=60)
SHARES = st.floats(min_value=0, max_value=100)


@given(VALUES, SHARES)
def test_percentiles_are_numpys(values: list[int], p: float) -> None:
    assert percentile(values, p) == pytest.approx(float(np.percentile(values, p)), abs=1e-6)


@given(VALUES, SHARES)
def test_counted_values_give_what_the_values_give(values: list[int], p: float) -> None:
    assert of_counts(Counter(values)).percentile(p) == percentile(values, p)


@given(VALUES)
def test_mean_and_deviation_are_numpys(values: list[int]) -> None:
    distribution = of_counts(Counter(values))
    assert distribution.count == len(values)
    assert distribution.mean == pytest.approx(float(np.mean(values)), abs=1e-9)
    assert distribution.deviation == pytest.approx(float(np.std(values)), abs=1e-9)


def test_values_that_never_occur_do_not_count() -> None:
    assert of_counts({1: 0, 5: 2, 9: 0}).percentile(100) == 5


def test_an_infinite_value_counts_from_the_place_where_it_stands() -> None:
    values = [1.0, 2.0, 3.0, math.inf]
    assert percentile(values, 50) == 2.5
    assert percentile(values, 200 / 3) == pytest.approx(3.0)
    assert percentile(values, 90) == math.inf
    assert percentile([math.inf, math.inf], 50) == math.inf


def test_nothing_has_no_percentile() -> None:
    with pytest.raises(ValueError, match="no values"):
        percentile([], 50)
    assert of_values([]).count == 0


@pytest.mark.parametrize("p", [-1, 100.5, math.nan])
def test_a_percentile_is_from_0_to_100(p: float) -> None:
    with pytest.raises(ValueError, match="from 0 to 100"):
        percentile([1.0], p)
