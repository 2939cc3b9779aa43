"""Speculation as users write it: what is taken, and what is refused by name."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headway.config import EngineConfig
from headway.errors import InvalidRequest
from headway.types.speculation import MOST_DRAFTS, SpeculativeConfig
from headway.types.speculation_json import DEFAULT, OFF, chosen_speculation, parse_speculation

NGRAM = SpeculativeConfig(method="ngram")


@pytest.mark.parametrize(
    ("values", "meant"),
    [
        ({}, NGRAM),
        ({"method": "ngram"}, NGRAM),
        (
            {
                "method": "ngram",
                "num_speculative_tokens": 5,
                "prompt_lookup_max": 4,
                "prompt_lookup_min": 3,
            },
            SpeculativeConfig(
                method="ngram", num_speculative_tokens=5, prompt_lookup_max=4, prompt_lookup_min=3
            ),
        ),
        # A bound that lies beyond the other's default takes it along.
        (
            {"prompt_lookup_max": 1},
            SpeculativeConfig(method="ngram", prompt_lookup_max=1, prompt_lookup_min=1),
        ),
        (
            {"prompt_lookup_min": 9},
            SpeculativeConfig(method="ngram", prompt_lookup_max=9, prompt_lookup_min=9),
        ),
        ({"model": "[ngram]"}, NGRAM),
        ({"model": "small"}, SpeculativeConfig(method="draft_model", model="small")),
        (
            {"method": "draft_model", "model": "small", "num_speculative_tokens": 3},
            SpeculativeConfig(method="draft_model", model="small", num_speculative_tokens=3),
        ),
        ({"disable_by_batch_size": 8}, SpeculativeConfig(method="ngram", disable_by_batch_size=8)),
        (
            {"num_speculative_tokens": 0},
            SpeculativeConfig(method="ngram", num_speculative_tokens=0),
        ),
        # What asks for nothing.
        (
            {"quantization": None, "draft_tensor_parallel_size": 1},
            SpeculativeConfig(method="ngram"),
        ),
        ({"rejection_sample_method": "standard"}, SpeculativeConfig(method="ngram")),
    ],
)
def test_what_is_written_and_what_it_means(
    values: dict[str, Any], meant: SpeculativeConfig
) -> None:
    assert parse_speculation(values) == meant
    assert parse_speculation(json.dumps(values)) == meant


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ("{", "not valid JSON"),
        ("[" * 100_000, "not valid JSON"),
        ('"ngram"', "must be a JSON object"),
        ("[]", "must be a JSON object"),
        ({"methd": "ngram"}, "did you mean method"),
        ({"num_speculative_token": 3}, "did you mean num_speculative_tokens"),
        ({"num_speculative_tokens": MOST_DRAFTS + 1}, "num_speculative_tokens must be from 0"),
        ({"num_speculative_tokens": "3"}, "num_speculative_tokens must be a whole number"),
        ({"num_speculative_tokens": True}, "num_speculative_tokens must be a whole number"),
        ({"prompt_lookup_max": 0}, "prompt_lookup_max must be from 1"),
        ({"prompt_lookup_max": 2.5}, "prompt_lookup_max must be a whole number"),
        ({"prompt_lookup_min": 5, "prompt_lookup_max": 3}, "must not exceed prompt_lookup_max"),
        ({"disable_by_batch_size": 0}, "disable_by_batch_size must be from 1"),
        ({"method": "draft_model"}, "model and the method draft_model"),
        ({"method": "ngram", "model": "small"}, "model and the method draft_model"),
        ({"model": 3}, "model must be text"),
        ({"method": 3}, "method: 3 is none of ngram, draft_model"),
        ({"method": "ngrams"}, "did you mean ngram"),
        ({"method": "eagle3", "model": "x"}, "eagle3 needs weights trained for it"),
        ({"method": "medusa"}, "use ngram, or draft_model"),
        ({"method": "deepseek_mtp"}, "deepseek_mtp needs weights"),
        ({"method": "suffix"}, "use ngram, which looks in the prompt"),
        ({"method": "ngram_gpu"}, "no method ngram_gpu: use ngram"),
        ({"quantization": "awq"}, "quantization is not supported: a draft model is stored"),
        ({"draft_tensor_parallel_size": 2}, "draft_tensor_parallel_size can only be 1"),
        ({"rejection_sample_method": "synthetic"}, 'can only be "standard"'),
    ],
)
def test_what_is_wrong_is_named(values: str | dict[str, Any], reason: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        parse_speculation(values)
    assert reason in caught.value.message
    assert caught.value.message.startswith("speculative_config")
    assert caught.value.field == "speculative_config"
    assert len(caught.value.message) < 300


def test_the_switch_and_the_configuration() -> None:
    assert chosen_speculation(None, None) == DEFAULT
    assert chosen_speculation(True, None) == DEFAULT
    assert chosen_speculation(False, None) == OFF
    assert OFF.most == 0
    assert chosen_speculation(True, '{"model": "small"}').model == "small"
    with pytest.raises(InvalidRequest, match="no effect with speculation off"):
        chosen_speculation(False, "{}")


def test_an_engine_takes_text_or_what_it_says() -> None:
    text = '{"method": "ngram", "num_speculative_tokens": 3}'
    config = EngineConfig(speculative_config=text)
    assert EngineConfig(speculative_config=json.loads(text)) == config
    assert config.speculative() == SpeculativeConfig(method="ngram", num_speculative_tokens=3)
    assert EngineConfig().speculative() == DEFAULT
    assert EngineConfig(speculation=False).speculative() == OFF
    for wrong in ({"model": object()}, {"methods": "ngram"}, 3):
        with pytest.raises(InvalidRequest) as caught:
            EngineConfig(speculative_config=wrong)  # type: ignore[arg-type]
        assert caught.value.field == "speculative_config"


@given(
    st.dictionaries(
        st.sampled_from(
            ["method", "model", "num_speculative_tokens", "prompt_lookup_max", "prompt_lookup_min"]
        )
        | st.text(max_size=8),
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    )
)
def test_whatever_is_written_is_taken_or_refused_by_name(values: dict[str, Any]) -> None:
    with suppress(InvalidRequest):
        config = parse_speculation(values)
        assert config.method is not None
        assert config.prompt_lookup_min <= config.prompt_lookup_max
