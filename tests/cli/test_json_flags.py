"""Flags whose value is JSON, given in parts."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from headway.cli.flags import collect
from headway.cli.json_flags import joined_settings, joined_words
from headway.cli.main import build_parser
from headway.config import EngineConfig
from headway.errors import InvalidRequest
from headway.types.speculation import SpeculativeConfig

SPECULATIVE = "--speculative-config"


def serve(*words: str) -> EngineConfig:
    return collect(EngineConfig, build_parser().parse_args(["serve", *words]), environment={})


def test_parts_become_one_word() -> None:
    words = [
        "MODEL",
        f"{SPECULATIVE}.method=ngram",
        "--port=1",
        f"{SPECULATIVE}.prompt-lookup-max=3",
    ]
    whole = f'{SPECULATIVE}={{"method": "ngram", "prompt_lookup_max": 3}}'
    assert joined_words(words) == ["MODEL", "--port=1", whole]


def test_parts_and_a_whole_go_together() -> None:
    words = [f'{SPECULATIVE}={{"method": "ngram"}}', f"{SPECULATIVE}.num_speculative_tokens=2"]
    (word,) = joined_words(words)
    found = json.loads(word.partition("=")[2])
    assert found == {"method": "ngram", "num_speculative_tokens": 2}
    file = {"speculative_config": '{"method": "ngram"}', "speculative_config.prompt_lookup_max": 3}
    assert json.loads(joined_settings(file)["speculative_config"]) == {
        "method": "ngram",
        "prompt_lookup_max": 3,
    }


def test_what_has_no_parts_passes_as_it_is() -> None:
    words = ["MODEL", f"{SPECULATIVE}=[1]", "--port=1", "--", f"{SPECULATIVE}.method=ngram"]
    assert joined_words(words) == words
    file: dict[str, Any] = {"port": 1, "speculative_config": None, "a.b": 2}
    assert joined_settings(file) == file


def test_parts_stand_before_what_is_no_flag() -> None:
    words = [f"{SPECULATIVE}.method=ngram", "--", "MODEL"]
    assert joined_words(words) == [f'{SPECULATIVE}={{"method": "ngram"}}', "--", "MODEL"]


def test_a_key_that_is_given_twice() -> None:
    words = [f'{SPECULATIVE}={{"method": "ngram"}}', f"{SPECULATIVE}.method=eagle"]
    with pytest.raises(InvalidRequest, match=re.escape("--speculative-config: method is given")):
        joined_words(words)


@pytest.mark.parametrize(
    "words",
    [
        [SPECULATIVE, '{"method": "ngram", "num_speculative_tokens": 5, "prompt_lookup_max": 4}'],
        ["-sc", '{"method": "ngram", "num_speculative_tokens": 5}'],
        [f"{SPECULATIVE}.method", "ngram", f"{SPECULATIVE}.num_speculative_tokens", "5"],
        ["-sc.num_speculative_tokens=5"],
        ["--spec-method", "ngram", "--spec-tokens", "5"],
        ["--speculative_model", "[ngram]", "--num-speculative-tokens", "5"],
        ["--draft-max", "5"],
    ],
)
def test_every_spelling_of_the_same(words: list[str]) -> None:
    wanted = SpeculativeConfig(method="ngram", num_speculative_tokens=5)
    assert serve("MODEL", *words).speculative() == wanted


def test_a_draft_model_under_other_servers_names() -> None:
    wanted = SpeculativeConfig(method="draft_model", model="small", num_speculative_tokens=3)
    for words in (["-md", "small", "--draft", "3"], ["--spec-model=small", "--spec-tokens=3"]):
        assert serve(*words).speculative() == wanted


def test_speculation_turned_off() -> None:
    assert serve("--no-speculation").speculative().most == 0
    assert serve("--spec-default").speculative() == EngineConfig().speculative()
    parsed = build_parser().parse_args(["serve"])
    off = collect(EngineConfig, parsed, environment={"HEADWAY_SPECULATION": "off"})
    assert off.speculative().most == 0
    with pytest.raises(InvalidRequest, match="no effect with speculation off"):
        serve("--no-speculation", "--spec-method", "ngram")


def test_other_commands_take_the_whole(capsys: pytest.CaptureFixture[str]) -> None:
    for command in (["generate", "Hello"], ["bench", "throughput"], ["bench", "latency"]):
        parsed = build_parser().parse_args([*command, SPECULATIVE, '{"num_speculative_tokens": 2}'])
        names = argparse_of(parsed)
        assert collect(EngineConfig, names, environment={}).speculative().most == 2


def argparse_of(parsed: Any) -> Any:
    """Without flags that mean another thing to the command than to the engine."""
    for name in ("seed", "slo"):
        if hasattr(parsed, name):
            setattr(parsed, name, None)
    return parsed
