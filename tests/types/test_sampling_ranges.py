"""What sampling parameters may be: both ends of each range, and the next value beyond them."""

from __future__ import annotations

import math
from typing import Any

import pytest

from headway.errors import InvalidRequest
from headway.types import SamplingParams

TINY = 1e-9
# Each: the field, values that are in range, values that are not.
RANGES: list[tuple[str, list[Any], list[Any]]] = [
    ("n", [1, 128], [0, -1, 129]),
    ("max_tokens", [None, 1], [0, -1]),
    ("min_tokens", [0, 1], [-1]),
    ("temperature", [0.0, 100.0], [-TINY, 100.001, math.nan, math.inf]),
    ("top_p", [TINY, 1.0], [0.0, -0.1, 1.0 + TINY, math.nan]),
    ("top_k", [-1, 0, 1], [-2]),
    ("min_p", [0.0, 1.0], [-TINY, 1.0 + TINY]),
    ("presence_penalty", [-2.0, 2.0], [-2.001, 2.001]),
    ("frequency_penalty", [-2.0, 2.0], [-2.001, 2.001]),
    ("repetition_penalty", [TINY, 100.0], [0.0, -1.0, 100.001, math.inf]),
    ("logprobs", [None, -1, 0, 20], [-2, 21]),
    ("prompt_logprobs", [None, -1, 0, 20], [-2, 21]),
    ("seed", [None, -(2**63), 2**63 - 1], [-(2**63) - 1, 2**63]),
    ("logit_bias", [{5: -100.0}, {5: 100.0}], [{5: -100.001}, {5: 100.001}]),
]


@pytest.mark.parametrize(("field", "fine", "wrong"), RANGES)
def test_a_range_includes_its_ends_and_nothing_beyond(
    field: str, fine: list[Any], wrong: list[Any]
) -> None:
    for value in fine:
        assert getattr(SamplingParams(**{field: value}), field) == value
    for value in wrong:
        with pytest.raises(InvalidRequest) as caught:
            SamplingParams(**{field: value})
        assert caught.value.field == field


def test_as_many_tokens_as_allowed_may_be_demanded_and_no_more() -> None:
    assert SamplingParams(min_tokens=4, max_tokens=4).min_tokens == 4
    with pytest.raises(InvalidRequest, match=r"min_tokens \(5\) is greater than max_tokens \(4\)"):
        SamplingParams(min_tokens=5, max_tokens=4)


def test_only_temperature_zero_is_greedy_and_may_be_asked_for_several_times() -> None:
    assert SamplingParams(n=2, temperature=0.0).greedy
    assert not SamplingParams(n=2, temperature=TINY).greedy
