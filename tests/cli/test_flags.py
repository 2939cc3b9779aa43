"""Flags made from settings: sources, their precedence, parsing, and errors that name the flag."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import pytest

from headway.cli.flags import (
    add_flags,
    check_variables,
    collect,
    settings_of,
    truth,
    whole_number,
)
from headway.cli.serve import check_known, read_config_file
from headway.config import EngineConfig, ServerConfig
from headway.errors import InvalidRequest
from headway.types import SamplingParams


def parse(settings: type, *words: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser(exit_on_error=False)
    add_flags(parser, settings)
    return parser.parse_args(list(words))


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("12", 12),
        ("8k", 8000),
        ("8K", 8192),
        ("1.5GiB", 3 * 2**29),
        ("2GB", 2 * 10**9),
        ("1e3", 1000),
    ],
)
def test_whole_numbers(text: str, number: int) -> None:
    assert whole_number(text) == number


@pytest.mark.parametrize("text", ["", "x", "1.5", "0.0001k", "nan", "nank", "1e400", "9" * 5000])
def test_what_is_no_whole_number(text: str) -> None:
    with pytest.raises(ValueError, match="is not a whole number"):
        whole_number(text)


def test_truth() -> None:
    assert truth("ON")
    assert not truth("0")
    with pytest.raises(ValueError, match="neither"):
        truth("perhaps")


def test_defaults_without_any_flag() -> None:
    assert collect(EngineConfig, parse(EngineConfig), environment={}) == EngineConfig()
    assert collect(ServerConfig, parse(ServerConfig), environment={}) == ServerConfig()


def test_every_kind_of_flag() -> None:
    engine = collect(
        EngineConfig,
        parse(
            EngineConfig,
            *("--max-num-seqs", "64", "--kv-cache-memory", "1GiB", "--policy", "static"),
            *("--no-enable-prefix-caching", "--dynamic-wait", "0.5"),
        ),
        environment={},
    )
    assert (engine.max_num_seqs, engine.kv_cache_memory) == (64, 2**30)
    assert (engine.policy, engine.policy_options) == ("static", {"dynamic_wait": 0.5})
    assert engine.enable_prefix_caching is False
    server = collect(ServerConfig, parse(ServerConfig, "--api-key", "a", "b"), environment={})
    assert server.api_key == ("a", "b")


def test_flags_of_the_native_backend() -> None:
    words = ("--dtype", "int4", "--kv-cache-dtype", "int8", "--isa", "avx2", "--pin-threads")
    engine = collect(EngineConfig, parse(EngineConfig, *words), environment={})
    assert (engine.dtype, engine.kv_cache_dtype) == ("int4", "int8")
    assert (engine.isa, engine.pin_threads, engine.backend) == ("avx2", True, "auto")


@pytest.mark.parametrize(
    ("settings", "field"),
    [
        ({"backend": "reference", "dtype": "int8"}, "dtype"),
        ({"backend": "reference", "kv_cache_dtype": "int8"}, "kv_cache_dtype"),
        ({"backend": "reference", "isa": "avx2"}, "isa"),
        ({"backend": "reference", "pin_threads": True}, "pin_threads"),
        ({"backend": "native", "device": "cuda"}, "backend"),
        ({"device": "cuda", "dtype": "int4"}, "dtype"),
        ({"backend": "native", "dtype": "float16"}, "dtype"),
        ({"backend": "native", "block_size": 8}, "block_size"),
    ],
)
def test_what_a_backend_cannot_do_is_refused(settings: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        EngineConfig(**settings)
    assert caught.value.field == field
    EngineConfig(**{**settings, "backend": "auto", "device": "auto"})


def test_numbers_in_lists_are_numbers() -> None:
    params = collect(
        SamplingParams,
        parse_sampling("--stop-token-ids", "5", "7", "--stop", "END"),
        environment={},
    )
    assert params.stop_token_ids == (5, 7)
    assert params.stop == ("END",)


def parse_sampling(*words: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    leave_out = ("logit_bias", "allowed_token_ids", "structured_outputs")
    add_flags(parser, SamplingParams, leave_out=leave_out)
    return parser.parse_args(list(words))


def test_flag_beats_environment_beats_file() -> None:
    environment = {"HEADWAY_MAX_NUM_SEQS": "2", "HEADWAY_POLICY": "dynamic"}
    file = {"max_num_seqs": 3, "policy": "static", "block_size": 64}
    config = collect(
        EngineConfig, parse(EngineConfig, "--max-num-seqs", "1"), file=file, environment=environment
    )
    assert (config.max_num_seqs, config.policy, config.block_size) == (1, "dynamic", 64)


def test_lists_from_environment_and_file() -> None:
    environment = {"HEADWAY_API_KEY": "a, b"}
    file: dict[str, object] = {"served_model_name": ["x", "y"]}
    config = collect(ServerConfig, parse(ServerConfig), file=file, environment=environment)
    assert config.api_key == ("a", "b")
    assert config.served_model_name == ("x", "y")


@pytest.mark.parametrize(
    "environment",
    [{"HEADWAY_MAX_NUM_SEQS": "many"}, {"HEADWAY_POLICY": "magic"}, {"HEADWAY_MAX_NUM_SEQS": "0"}],
)
def test_a_bad_environment_names_the_flag(environment: dict[str, str]) -> None:
    with pytest.raises(InvalidRequest) as caught:
        collect(EngineConfig, parse(EngineConfig), environment=environment)
    flag = next(iter(environment)).removeprefix("HEADWAY_").lower()
    assert flag in str(caught.value.field).replace("-", "_")


def test_config_file(tmp_path: Path) -> None:
    path = tmp_path / "settings.yaml"
    path.write_text("max-num-seqs: 8\npolicy: static\n")
    file = read_config_file(path)
    check_known(file, (EngineConfig, ServerConfig))
    config = collect(EngineConfig, parse(EngineConfig), file=file, environment={})
    assert (config.max_num_seqs, config.policy) == (8, "static")


@pytest.mark.parametrize("text", ["- a\n- b\n", "a: [", "\x00"])
def test_a_config_file_that_is_none(tmp_path: Path, text: str) -> None:
    path = tmp_path / "settings.yaml"
    path.write_text(text)
    with pytest.raises(InvalidRequest, match=r"settings\.yaml"):
        read_config_file(path)
    with pytest.raises(InvalidRequest, match="cannot read"):
        read_config_file(tmp_path / "none.yaml")


def test_an_unknown_setting_in_a_file_is_named() -> None:
    with pytest.raises(InvalidRequest, match=r"max_seqs.*did you mean max_num_seqs\?"):
        check_known({"max_seqs": 3}, (EngineConfig, ServerConfig))


@pytest.mark.parametrize("key", ["", "  "])
def test_an_empty_key_is_refused_wherever_it_comes_from(key: str) -> None:
    with pytest.raises(InvalidRequest, match="api_key must not be empty"):
        collect(ServerConfig, parse(ServerConfig, "--api-key", key), environment={})
    for environment, file in (({"HEADWAY_API_KEY": key}, {}), ({}, {"api_key": ["good", key]})):
        with pytest.raises(InvalidRequest, match="api_key must not be empty"):
            collect(ServerConfig, parse(ServerConfig), file=file, environment=environment)


@pytest.mark.parametrize("text", ["api-key:", "api-key: []", "api-key: ''"])
def test_a_config_file_that_has_no_key(tmp_path: Path, text: str) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(text)
    with pytest.raises(InvalidRequest, match="api-key has no value"):
        check_known(read_config_file(path), (ServerConfig,))


@pytest.mark.parametrize("second", ["max-num-seqs: 9", "max_num_seqs: 9", "'max-num-seqs': 9"])
def test_a_setting_that_a_file_gives_twice_is_refused(tmp_path: Path, second: str) -> None:
    path = tmp_path / "settings.yaml"
    path.write_text(f"max-num-seqs: 8\nport: 1\n{second}\n")
    with pytest.raises(InvalidRequest, match="given twice") as caught:
        read_config_file(path)
    assert "\n" not in caught.value.message


@pytest.mark.parametrize(
    ("line", "flag"),
    [
        ("max-num-seqs:", "--max-num-seqs"),
        ("max-num-seqs: true", "--max-num-seqs"),
        ("max-num-seqs: [1]", "--max-num-seqs"),
        ("max-num-seqs: 1.5", "--max-num-seqs"),
        ("max-num-seqs: {a: 1}", "--max-num-seqs"),
        ("host: 5", "--host"),
        ("host: {a: 1}", "--host"),
        ("queue-timeout: soon", "--queue-timeout"),
        ("queue-timeout: .nan", "queue_timeout"),
        ("enable-prefix-caching: 1", "--enable-prefix-caching"),
        ("api-key: 0123", "--api-key"),
        ("api-key: [a, 5]", "--api-key"),
        ("api-key: [[a]]", "--api-key"),
        ("policy: contineous", "--policy"),
    ],
)
def test_a_file_with_a_value_of_the_wrong_type(tmp_path: Path, line: str, flag: str) -> None:
    path = tmp_path / "settings.yaml"
    path.write_text(line)
    file = read_config_file(path)
    in_engine = any(each.name in file for each in settings_of(EngineConfig))
    kind: Any = EngineConfig if in_engine else ServerConfig
    with pytest.raises(InvalidRequest) as caught:
        collect(kind, parse(kind), file=file, environment={})
    assert caught.value.field == flag


def test_an_empty_file_sets_nothing_and_sizes_may_be_written_out(tmp_path: Path) -> None:
    path = tmp_path / "settings.yaml"
    path.write_text("# nothing yet\n")
    assert read_config_file(path) == {}
    path.write_text("kv-cache-memory: 1GiB\nenable-prefix-caching: off\n")
    file = read_config_file(path)
    config = collect(EngineConfig, parse(EngineConfig), file=file, environment={})
    assert (config.kv_cache_memory, config.enable_prefix_caching) == (2**30, False)


def test_every_setting_has_a_variable_that_is_known() -> None:
    settings = [each for kind in (EngineConfig, ServerConfig) for each in settings_of(kind)]
    check_variables({f"HEADWAY_{each.name.upper()}": "1" for each in settings})
    with pytest.raises(InvalidRequest, match="did you mean HEADWAY_BLOCK_SIZE"):
        check_variables({"HEADWAY_BLOCKSIZE": "8"})
