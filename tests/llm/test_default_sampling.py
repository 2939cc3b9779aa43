"""Which sampling defaults a model has, by where they are to come from."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from headway.errors import InvalidRequest
from headway.llm.default_sampling import choose_default_sampling
from headway.types.sampling_defaults import SAFE_CHAT, DefaultSampling, SamplingDefaults

MODEL = SamplingDefaults(temperature=0.6, top_p=0.9, max_tokens=100)
NONE = SamplingDefaults()


def choose(
    model: SamplingDefaults = NONE, source: str = "auto", override: SamplingDefaults = NONE
) -> DefaultSampling:
    return choose_default_sampling(model, generation_config=source, override=override)


def test_a_models_own_defaults_are_for_chats_and_completions() -> None:
    assert choose(MODEL) == DefaultSampling(chat=MODEL, completions=MODEL)


def test_only_chats_are_safe_with_a_model_that_says_nothing() -> None:
    assert choose() == DefaultSampling(chat=SAFE_CHAT, completions=NONE)
    length = SamplingDefaults(max_tokens=9)
    found = choose(length)
    assert found.chat == length.over(SAFE_CHAT)
    assert found.completions == length


def test_none_where_none_are_wanted() -> None:
    assert choose(MODEL, "vllm") == DefaultSampling()
    assert choose(NONE, "vllm") == DefaultSampling()


def test_overrides_go_before_all_of_them() -> None:
    override = SamplingDefaults(temperature=0.1)
    assert choose(MODEL, override=override).chat == override.over(MODEL)
    assert choose(override=override).chat == override.over(SAFE_CHAT)
    assert choose(override=override).completions == override
    assert choose(MODEL, "vllm", override) == DefaultSampling(chat=override, completions=override)


def test_another_file_or_its_folder(tmp_path: Path) -> None:
    file = tmp_path / "generation_config.json"
    file.write_text(json.dumps({"temperature": 0.3, "eos_token_id": 2}))
    wanted = SamplingDefaults(temperature=0.3)
    for source in (file, tmp_path):
        assert choose(MODEL, str(source)) == DefaultSampling(chat=wanted, completions=wanted)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (None, "cannot read"),
        ("{", "input data was truncated"),
        ("[]", "xpected `object`"),
        ('{"temperature": -1}', "temperature must be in"),
        (" " * (2**20 + 1), "too large"),
    ],
)
def test_files_that_cannot_be_used(tmp_path: Path, content: str | None, reason: str) -> None:
    file = tmp_path / "generation_config.json"
    if content is not None:
        file.write_text(content)
    with pytest.raises(InvalidRequest, match=reason) as caught:
        choose(MODEL, str(tmp_path))
    assert caught.value.field == "generation_config"
