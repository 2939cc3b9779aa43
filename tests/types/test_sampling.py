"""What a caller may ask of sampling: lists are bounded, and those that are sets keep each once."""

from __future__ import annotations

from typing import Any

import pytest

from headway.errors import InvalidRequest
from headway.types import SamplingParams


@pytest.mark.parametrize(
    ("field", "most", "excess"),
    [
        ("stop", [str(n) for n in range(64)], [str(n) for n in range(65)]),
        ("stop", "x" * 1024, "x" * 1025),
        ("stop", ["x" * 1024, "y" * 1024], ["ok", "x" * 1025]),
        ("stop_token_ids", range(4096), range(4097)),
        ("bad_words", [str(n) for n in range(4096)], [str(n) for n in range(4097)]),
        ("bad_words", ["x" * 2**14, "y" * 2**14], ["x" * 2**14, "y" * (2**14 + 1)]),
        ("allowed_token_ids", range(2**20), range(2**20 + 1)),
        ("logit_bias", dict.fromkeys(range(4096), 1.0), dict.fromkeys(range(4097), 1.0)),
    ],
)
def test_lists_have_a_most(field: str, most: Any, excess: Any) -> None:
    SamplingParams(**{field: most})
    with pytest.raises(InvalidRequest, match=f"^{field} ") as caught:
        SamplingParams(**{field: excess})
    assert caught.value.field == field


def test_what_is_given_again_and_again_counts_once() -> None:
    params = SamplingParams(
        stop=["b", "a"] * 5000,  # type: ignore[arg-type]
        stop_token_ids=(5, 3) * 5000,
        bad_words=("no",) * 100_000,
        allowed_token_ids=(9, 7, 9) * 10**6,
    )
    assert params.stop == ("b", "a")
    assert params.stop_token_ids == (5, 3)
    assert params.bad_words == ("no",)
    assert params.allowed_token_ids == (9, 7)
