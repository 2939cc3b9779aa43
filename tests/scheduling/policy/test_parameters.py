"""A policy's parameters are declared in its file, and all that users may set follows from that."""

from __future__ import annotations

import argparse
from typing import Literal, get_args, get_origin

import pytest

from headway.cli.flags import add_flags, collect
from headway.cli.serve import check_known
from headway.config import EngineConfig
from headway.errors import InvalidRequest
from headway.llm.sync import _config
from headway.perf.bench.scenario import parse_scenario
from headway.scheduling.policy import PARAMETERS, make_policy, policy_config, split_options
from headway.scheduling.policy.dynamic import Dynamic
from headway.types.engine import PolicyConfig

SCENARIO = """
title: t
systems: [{name: a, policy: dynamic, dynamic_wait: 1.5}]
workloads: [{name: w, requests: 1}]
"""


def test_every_parameter_has_a_help_text_and_a_default() -> None:
    assert PARAMETERS.keys() == {"dynamic_wait", "paced_overload", "paced_patience"}
    for name, parameter in PARAMETERS.items():
        assert name.startswith(parameter.policy)
        assert parameter.field.metadata["help"]
        if get_origin(parameter.kind) is Literal:
            assert parameter.field.default in get_args(parameter.kind)
        else:
            assert isinstance(parameter.field.default, parameter.kind)


def test_flags_environment_and_files_set_them() -> None:
    parser = argparse.ArgumentParser()
    add_flags(parser, EngineConfig)
    given = collect(EngineConfig, parser.parse_args(["--dynamic-wait", "0.5"]), environment={})
    assert given.policy_options == {"dynamic_wait": 0.5}
    none = parser.parse_args([])
    environment = {"HEADWAY_DYNAMIC_WAIT": "0.25"}
    assert collect(EngineConfig, none, environment=environment).policy_options == {
        "dynamic_wait": 0.25
    }
    file = {"dynamic_wait": 2}
    check_known(file, (EngineConfig,))
    from_file = collect(EngineConfig, none, file=file, environment={})
    assert from_file.policy_options == {"dynamic_wait": 2.0}
    assert collect(EngineConfig, none, environment={}).policy_options == {}
    assert parse_scenario(SCENARIO).systems[0].policy_options == {"dynamic_wait": 1.5}
    assert _config(None, {"dynamic_wait": 0.1}).policy_options == {"dynamic_wait": 0.1}


def test_a_policy_gets_its_own_and_defaults_for_the_rest() -> None:
    assert make_policy(policy_config("dynamic", {"dynamic_wait": 2.0})) == Dynamic(wait=2.0)
    assert make_policy(policy_config("dynamic", {})) == Dynamic()
    assert policy_config("static", {"dynamic_wait": 2.0}) == PolicyConfig(name="static")


def test_what_a_policy_does_not_take_is_refused_at_once() -> None:
    with pytest.raises(InvalidRequest, match="from 0 to") as caught:
        split_options({"dynamic_wait": -1.0, "model": "x"})
    assert caught.value.field == "dynamic_wait"
    with pytest.raises(InvalidRequest, match="no engine setting"):
        _config(None, {"static_wait": 1.0})
    with pytest.raises(InvalidRequest, match="dynamic has no 'patience'"):
        make_policy(PolicyConfig(name="dynamic", options={"patience": 1.0}))
