"""Sampling defaults: read from a model's or an operator's values, checked as requests are."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import pytest

from headway.errors import InvalidRequest
from headway.types import SamplingParams
from headway.types.sampling_defaults import (
    SAFE_CHAT,
    SamplingDefaults,
    file_defaults,
    parse_defaults,
)


def test_every_default_is_a_parameter() -> None:
    assert {each.name for each in fields(SamplingDefaults)} <= {
        each.name for each in fields(SamplingParams)
    }
    assert SamplingParams(**SAFE_CHAT.given()).top_k == 40


def test_what_is_said_goes_before_what_others_say() -> None:
    mine = SamplingDefaults(temperature=0.0, top_k=0)
    others = SamplingDefaults(temperature=0.5, top_p=0.5)
    assert mine.over(others) == SamplingDefaults(temperature=0.0, top_k=0, top_p=0.5)
    assert mine.given() == {"temperature": 0.0, "top_k": 0}
    assert mine.shapes_answers
    assert not SamplingDefaults(max_tokens=9).shapes_answers


def test_a_generation_config_has_other_entries_too() -> None:
    values = {
        "temperature": 0.6,
        "top_p": None,
        "top_k": 20,
        "max_new_tokens": 2048,
        "max_tokens": 3,
        "do_sample": True,
        "eos_token_id": [1, 2],
    }
    found = file_defaults(values, field="f")
    assert found == SamplingDefaults(temperature=0.6, top_k=20, max_tokens=2048)


@pytest.mark.parametrize(
    "values",
    [
        {"temperature": -1},
        {"temperature": "0.5"},
        {"temperature": True},
        {"temperature": float("nan")},
        {"top_p": 0},
        {"top_p": 1.5},
        {"top_k": 1.5},
        {"top_k": -2},
        {"top_k": 2**31},
        {"min_p": 2},
        {"repetition_penalty": 0},
        {"presence_penalty": 3},
        {"frequency_penalty": [1]},
        {"max_new_tokens": 0},
        {"max_new_tokens": "many"},
    ],
)
def test_values_that_no_request_could_have(values: dict[str, Any]) -> None:
    with pytest.raises(InvalidRequest, match=r"^the file: .*") as caught:
        file_defaults(values, field="the file")
    assert caught.value.field == "the file"
    assert len(caught.value.message) < 200


def test_an_operators_json() -> None:
    wanted = SamplingDefaults(temperature=0.7, max_tokens=5)
    text = '{"temperature": 0.7, "max_new_tokens": 5}'
    assert parse_defaults(text, field="f") == wanted
    assert parse_defaults({"temperature": 0.7, "max_new_tokens": 5}, field="f") == wanted
    assert parse_defaults("{}", field="f") == SamplingDefaults()


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "not valid JSON"),
        ("{", "not valid JSON"),
        ("[" * 10**6, "not valid JSON"),
        ("[1]", "must be a JSON object"),
        ('{"temprature": 1}', "did you mean temperature"),
        ('{"do_sample": true}', "no default of sampling; there are temperature"),
        ('{"temperature": NaN}', "finite"),
    ],
)
def test_json_that_says_something_else(text: str, reason: str) -> None:
    with pytest.raises(InvalidRequest, match=reason) as caught:
        parse_defaults(text, field="f")
    assert caught.value.field == "f"
    assert len(caught.value.message) < 300
