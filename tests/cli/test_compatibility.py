"""Flags of `vllm serve` and `llama-server`, given to `headway serve`: every kind of outcome."""

from __future__ import annotations

import argparse
import re
from pathlib import Path
from typing import Any

import pytest

from headway.cli.compatibility import SERVERS, Rule, adapt_settings, adapt_words, rules
from headway.cli.flags import collect
from headway.cli.flags_document import document
from headway.cli.main import build_parser
from headway.cli.serve import configure
from headway.cli.serve import run as run_serve
from headway.config import EngineConfig, ServerConfig
from headway.errors import InvalidRequest

ROOT = Path(__file__).parents[2]
ALL = [(server, rule) for server in SERVERS for rule in rules(server)]
SAMPLE = {
    "nothing": [],
    "switch": [],
    "choice": [],
    "integer": ["1"],
    "number": ["0.5"],
    "text": ["x"],
    "texts": ["1", "2"],
    "json": ['{"a": 1}'],
}
"""A value of each type that `Rule.takes` has."""


def parse(*words: str) -> argparse.Namespace:
    """What the command line parses; it is not run."""
    return build_parser().parse_args(["serve", *words])


def settings(*words: str) -> tuple[EngineConfig, ServerConfig]:
    parsed = parse(*words)
    return (
        collect(EngineConfig, parsed, environment={}),
        collect(ServerConfig, parsed, environment={}),
    )


def refused(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    """What is printed where the start is refused: one line."""
    with pytest.raises(SystemExit) as caught:
        parse(*words)
    assert caught.value.code == 2
    shown = capsys.readouterr().err
    assert shown.count("\n") == 1
    return shown


def own_flags() -> set[str]:
    parser = argparse.ArgumentParser()
    configure(parser)
    return set(parser._option_string_actions)


def of(outcome: str) -> list[Any]:
    found = [rule for _, rule in ALL if rule.outcome == outcome]
    return [pytest.param(rule, id=rule.flags[0]) for rule in found]


@pytest.mark.parametrize("rule", of("supported"))
def test_a_supported_flag_is_headways_own(rule: Rule) -> None:
    assert set(rule.flags) <= own_flags()


@pytest.mark.parametrize("rule", of("alias"))
def test_an_alias_stands_for_a_flag_of_headways(rule: Rule) -> None:
    flag, _, value = rule.target.partition("=")
    flag, _, part = flag.partition(".")
    assert flag in own_flags()
    given = [] if rule.takes == "switch" else ["1"]
    words, besides = adapt_words([rule.flags[0], *given])
    assert besides == {"accepted_flags": []}
    whole = f'{flag}={{"{part}": 1}}'
    assert words in ([rule.target], [f"{flag}={value or '1'}"], [flag, "1"], [whole])
    parse(rule.flags[0], *given)


@pytest.mark.parametrize("rule", of("accepted"))
def test_an_accepted_flag_is_parsed_and_told(rule: Rule) -> None:
    for flag in rule.flags:
        fits = rule.fits or SAMPLE[rule.takes]
        if rule.takes == "switch":
            told = parse(f"{flag}={fits[0] if fits else 'true'}", "MODEL")
        elif rule.takes == "texts":
            told = parse("MODEL", flag, *fits)
        else:
            told = parse(flag, *fits[:1], "MODEL")
        assert told.model == "MODEL"
        assert all(line.startswith(flag) for line in told.accepted_flags)
        assert told.accepted_flags[0].endswith(rule.note)


@pytest.mark.parametrize(
    "rule", [each for each in of("accepted") if each.values[0].fits is not None]
)
def test_a_value_that_asks_for_something_else_is_refused(
    rule: Rule, capsys: pytest.CaptureFixture[str]
) -> None:
    if rule.takes == "switch":
        wrong = [f"{rule.flags[0]}={'false' if rule.fits == ('true',) else 'true'}"]
    else:
        wrong = [rule.flags[0], {"json": '{"a": 1}', "choice": "on"}.get(rule.takes, "1234567")]
    if rule.takes == "choice":
        return  # what does not fit is the next word
    shown = refused(capsys, *wrong)
    assert rule.note in shown
    assert rule.flags[0] in shown


@pytest.mark.parametrize("rule", of("refused"))
def test_a_refused_flag_says_why(rule: Rule, capsys: pytest.CaptureFixture[str]) -> None:
    for flag in rule.flags:
        for words in ([flag], [flag, "1"], [f"{flag}=1"]):
            assert f"{flag} is not supported: {rule.note}" in refused(capsys, *words)


def test_notes_name_flags_that_there_are() -> None:
    known = own_flags() | {"--log-level"} | {flag for _, rule in ALL for flag in rule.flags}
    for _, rule in ALL:
        assert set(re.findall(r"--[a-z][a-z-]*", rule.note)) <= known


def test_a_flag_stands_in_one_place_and_hides_none_of_headways() -> None:
    for server in SERVERS:
        flags = [flag for rule in rules(server) for flag in rule.flags]
        assert len(flags) == len(set(flags))
    for _, rule in ALL:
        if rule.outcome != "supported" and rule.target != "--model":
            assert not set(rule.flags) & own_flags()
    shared: dict[str, Rule] = {}
    for _, rule in ALL:
        for flag in rule.flags:
            other = shared.setdefault(flag, rule)
            assert (other.outcome, other.takes, other.target) == (
                rule.outcome,
                rule.takes,
                rule.target,
            )


def test_the_document_is_that_of_the_tables() -> None:
    made = "python -m headway.cli.flags_document > docs/flags.md"
    assert (ROOT / "docs" / "flags.md").read_text() == document(), made
    for _, rule in ALL:
        assert all(f"`{flag}`" in document() for flag in rule.flags)


@pytest.mark.parametrize(
    ("words", "value"),
    [
        (["-tp", "1"], "-tp 1"),
        (["--tensor_parallel_size=1"], "--tensor-parallel-size 1"),
        (["--enable-chunked-prefill", "True"], "--enable-chunked-prefill True"),
        (["--no-enable-lora"], "--no-enable-lora"),
        (["--compilation-config.level", "3"], "--compilation-config.level 3"),
        (["-O3"], "-O3"),
        (["-fa"], "-fa"),
        (["-fa", "on"], "-fa on"),
        (["--dtype", "half"], "--dtype half"),
        (["--max-model-len", "-1"], "--max-model-len -1"),
        (["-c", "0"], "-c 0"),
    ],
)
def test_spellings_of_what_is_accepted(words: list[str], value: str) -> None:
    parsed = parse(*words, "MODEL")
    assert parsed.model == "MODEL"
    (told,) = parsed.accepted_flags
    assert told.startswith(f"{value}: ")
    engine, server = settings(*words)
    assert (engine, server) == (EngineConfig(), ServerConfig())


@pytest.mark.parametrize(
    ("words", "changed"),
    [
        (["--kv-cache-memory-bytes", "1GiB"], {"kv_cache_memory": 2**30}),
        (["-c", "4k", "-np", "8", "-b", "512"], {"max_model_len": 4000, "max_num_seqs": 8}),
        (["--dtype=float"], {"dtype": "float32"}),
        (["--dtype", "bfloat16"], {"dtype": "bfloat16"}),
        (["--no-cache-prompt"], {"enable_prefix_caching": False}),
        (["--enable-prefix-caching=false"], {"enable_prefix_caching": False}),
        (["--max_model_len", "64"], {"max_model_len": 64}),
        (["--seed", "-1"], {"seed": None}),
        (["--seed", "-2"], {"seed": -2}),
    ],
)
def test_engine_settings_under_other_names(words: list[str], changed: dict[str, Any]) -> None:
    engine, _ = settings(*words)
    assert {name: getattr(engine, name) for name in changed} == changed


@pytest.mark.parametrize(
    ("words", "changed"),
    [
        (["--disable-log-requests"], {"enable_log_requests": False}),
        (["--no-disable-log-requests"], {"enable_log_requests": True}),
        (["--disable-log-stats"], {"log_stats_interval": 0.0}),
        (["--allowed-origins", '["*"]'], {"allowed_origins": ("*",)}),
        (["--allowed-origins", "a,b", "c"], {"allowed_origins": ("a,b", "c")}),
        (["--cors-origins", "a, b"], {"allowed_origins": ("a", "b")}),
        (["-a", "x,y"], {"served_model_name": ("x", "y")}),
        (["--served-model-name", "x", "y"], {"served_model_name": ("x", "y")}),
        (["--api-key", "[1"], {"api_key": ("[1",)}),
        (["--log-jsonl"], {"log_format": "json"}),
        (["--no-log-jsonl"], {"log_format": "text"}),
    ],
)
def test_server_settings_under_other_names(words: list[str], changed: dict[str, Any]) -> None:
    _, server = settings(*words)
    assert {name: getattr(server, name) for name in changed} == changed


@pytest.mark.parametrize("flag", ["--model", "-m", "-hf"])
def test_the_model_as_a_flag(flag: str) -> None:
    arguments = parse("--api-key", "a", flag, "x", "--port", "1")
    assert (arguments.model, arguments.model_flag) == (None, "x")
    both = parse("y", flag, "x")
    with pytest.raises(InvalidRequest, match="given twice, as y and as x"):
        run_serve(both)


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["--tensor-parallel-size", "2"], "--tensor-parallel-size 2 is not supported: one process"),
        (["--tensor-parallel-size", "two"], "'two' is not a whole number"),
        (["--tensor-parallel-size"], "--tensor-parallel-size needs a value"),
        (["--tensor-parallel-size", "--port", "1"], "--tensor-parallel-size needs a value"),
        (["--swap-space", "4GB"], "'4GB' is not a number"),
        (["--hf-overrides", "{"], "'{' is not JSON"),
        (["--enforce-eager=maybe"], "--enforce-eager: 'maybe' is neither true nor false"),
        (["--no-enable-chunked-prefill"], "always computed in chunks"),
        (["-O3=1"], "-O3 takes no value"),
        (["--no-jinja"], "--no-jinja is not supported"),
        (["--dtype", "fp8"], "'fp8' is none of"),
        (["--quantization", "awq"], "say with --dtype"),
        (["--speculative-config"], "expected one argument"),
        (["--lookup-cache-static", "x"], "a request's own text"),
        (["--no-quantization"], "unknown flag --no-quantization"),
    ],
)
def test_errors_say_what_is_wrong(
    words: list[str], reason: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert reason in refused(capsys, *words)


def test_what_is_no_flag_of_others_passes_as_it_is() -> None:
    words = ["MODEL", "--port", "1", "--slo", "ttft=1s", "--", "--tensor-parallel-size"]
    assert adapt_words(words) == (words, {"accepted_flags": []})


def test_help_is_short_and_help_all_has_everything(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parse("--help")
    short = capsys.readouterr().out
    assert "--enforce-eager" not in short
    assert "--help-all" in short
    with pytest.raises(SystemExit) as caught:
        parse("--help-all")
    assert caught.value.code == 0
    shown = capsys.readouterr().out
    assert shown.startswith(short)
    assert shown.endswith(document())


def test_a_config_file_may_have_them_too() -> None:
    kept, accepted = adapt_settings(
        {
            "tensor_parallel_size": 1,
            "enforce_eager": True,
            "enable_lora": False,
            "quantization": None,
            "cohere_is_reasoning_model": False,
            "hf_overrides": {},
            "kv_cache_memory_bytes": 2**30,
            "disable_log_requests": True,
            "disable_log_stats": True,
            "allowed_origins": '["a"]',
            "dtype": "half",
            "port": 8001,
            "max_model_len": -1,
            "something": [1],
            "speculative_config": {"method": "ngram"},
            "num_speculative_tokens": 3,
        }
    )
    assert kept == {
        "kv_cache_memory": 2**30,
        "enable_log_requests": False,
        "log_stats_interval": "0",
        "allowed_origins": ["a"],
        "port": 8001,
        "something": [1],
        "speculative_config": '{"method": "ngram", "num_speculative_tokens": 3}',
    }
    names = [line.partition(":")[0] for line in accepted]
    assert names == [
        "--tensor-parallel-size 1",
        "--enforce-eager True",
        "--enable-lora False",
        "--hf-overrides {}",
        "--dtype half",
        "--max-model-len -1",
    ]


@pytest.mark.parametrize(
    ("file", "reason"),
    [
        ({"tensor_parallel_size": 2}, "--tensor-parallel-size 2 is not supported"),
        ({"quantization": "awq"}, "--quantization is not supported"),
        ({"hf_overrides": {"x": 1}}, "--hf-overrides"),
        ({"kv_cache_memory_bytes": 1, "kv_cache_memory": 2}, "given twice"),
        ({"kv_cache_memory": 1, "kv_cache_memory_bytes": 2}, "given twice"),
        ({"speculative_config": {"method": "ngram"}, "spec_method": "ngram"}, "method is given"),
    ],
)
def test_a_config_file_that_asks_for_something_else(file: dict[str, Any], reason: str) -> None:
    with pytest.raises(InvalidRequest, match=re.escape(reason)):
        adapt_settings(file)
