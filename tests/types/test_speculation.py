"""Settings of speculation: what cannot be meant is refused by its name."""

from __future__ import annotations

from typing import Any

import pytest

from headway.errors import InvalidRequest
from headway.types.speculation import MOST_DRAFTS, SpeculativeConfig


@pytest.mark.parametrize(
    ("given", "field", "said"),
    [
        ({"method": "eagle"}, "method", "'eagle' is none of ngram, draft_model"),
        ({"num_speculative_tokens": MOST_DRAFTS + 1}, "num_speculative_tokens", "from 0 to 16"),
        ({"num_speculative_tokens": -1}, "num_speculative_tokens", "from 0 to 16"),
        ({"num_speculative_tokens": True}, "num_speculative_tokens", "a whole number"),
        ({"prompt_lookup_max": 0}, "prompt_lookup_max", "from 1 to 64"),
        ({"prompt_lookup_min": 5}, "prompt_lookup_min", "must not exceed prompt_lookup_max"),
        ({"method": "draft_model"}, "model", "together or not at all"),
        ({"method": "ngram", "model": "m"}, "model", "together or not at all"),
        ({"disable_by_batch_size": 0}, "disable_by_batch_size", "from 1 to 65,536"),
    ],
)
def test_a_wrong_value_is_named(given: dict[str, Any], field: str, said: str) -> None:
    with pytest.raises(InvalidRequest, match=said) as raised:
        SpeculativeConfig(**given)
    assert raised.value.field == f"speculative_config.{field}"


def test_as_many_drafts_as_pay_unless_a_number_is_given() -> None:
    assert SpeculativeConfig(method="ngram").most == MOST_DRAFTS
    assert SpeculativeConfig(method="ngram", num_speculative_tokens=5).most == 5
    assert SpeculativeConfig(method="draft_model", model="m").model == "m"
