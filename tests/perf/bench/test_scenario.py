"""Scenarios: what may be said, and that what may not is an error that names it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from headway.errors import InvalidRequest
from headway.perf.bench.groups import make_groups
from headway.perf.bench.scenario import (
    AUTO,
    Scenario,
    ScenarioLoad,
    System,
    load_scenario,
    parse_scenario,
    scenario_names,
)
from headway.types.fleet import FleetConfig

GOOD = """
title: two policies
kv_tokens: 1792
engine: {block_size: 16}
systems:
- {name: padded, policy: static, padded: true, slots: auto}
- {name: continuous, policy: continuous}
workloads:
- &burst {name: burst, requests: 5, prompt: 64, output: "exponential:3:4", cap: 8}
- {<<: *burst, name: stream, of: burst, loads: [0.5, 1], systems: [continuous]}
"""


def test_a_file_becomes_a_scenario() -> None:
    scenario = parse_scenario(GOOD)
    assert scenario.engine.block_size == 16
    assert [system.name for system in scenario.systems] == ["padded", "continuous"]
    assert scenario.systems[0].slots == AUTO
    burst, stream = scenario.workloads
    assert (burst.requests, burst.prompt, burst.cap, burst.loads) == (5, 64, 8, ())
    assert (stream.of, stream.loads) == ("burst", (0.5, 1.0))
    assert [system.name for system in scenario.taking_part(stream)] == ["continuous"]
    assert scenario.taking_part(burst) == scenario.systems


def test_keys_of_earlier_versions_are_read() -> None:
    text = GOOD.replace("policy: continuous", "external: transformers, slots: 2")
    old = text.replace("slots:", "seats:").replace("external:", "outside:")
    assert old != text
    assert parse_scenario(old) == parse_scenario(text)


@pytest.mark.parametrize(
    ("old", "new", "field", "says"),
    [
        ("title:", "titel:", "titel", "unknown key"),
        ("slots: auto", "slot: auto", "systems[0].slot", "unknown key"),
        ("slots: auto", "slots: all", "systems[0].slots", "all"),
        ("slots: auto", "slots: 0", "slots", "at least 1"),
        ("slots: auto", "dtype: int8", "dtype", "no dtype"),
        ("policy: static, padded: true, slots: auto", "slots: 2", "policy", "external"),
        ("padded: true, slots: auto", "padded: true", "slots", "need slots"),
        ("policy: continuous", "external: url", "url", "missing"),
        ("policy: continuous", "external: transformers", "slots", "need slots"),
        ("policy: continuous", "external: url, url: x, padded: true", "padded", "no padded"),
        ("policy: continuous", "policy: cleverest", "systems[1].policy", "cleverest"),
        ("policy: continuous", "policy: paced, roles: prefill", "roles", "generate answers"),
        ("policy: continuous", "policy: paced, roles: prefil", "roles", "did you mean prefill"),
        ("policy: continuous", "policy: paced, fixed_roles: true", "fixed_roles", "needs roles"),
        ("policy: continuous", "policy: paced, replicas: 0", "replicas", "replicas"),
        ("policy: continuous", "policy: paced, replicas: 65", "replicas", "replicas"),
        ("policy: continuous", "policy: paced, router: best", "systems[1].router", "best"),
        (
            "policy: continuous",
            "policy: paced, replicas: 3, roles: 'prefill,decode'",
            "roles",
            "replicas is 3",
        ),
        ("slots: auto", "slots: auto, replicas: 2", "replicas", "one engine"),
        ("policy: continuous", "external: url, url: x, replicas: 2", "replicas", "no replicas"),
        ("policy: continuous", "external: url, url: x, roles: both", "roles", "no roles"),
        ("block_size: 16", "block_size: 15", "block_size", "16"),
        ("block_size: 16", "policy: static", "policy", "cannot be set here"),
        ("block_size: 16", "slo: ttft=1s", "slo", "cannot be set here"),
        ("kv_tokens: 1792", "kv_tokens: 0", "kv_tokens", "at least 1"),
        ("kv_tokens: 1792", "repeats: 3", "workloads", "need kv_tokens"),
        ("kv_tokens: 1792", "kv_tokens: 9\nprice_per_hour: -1", "price_per_hour", "number from 0"),
        ("requests: 5, ", "", "workloads[0].requests", "missing"),
        ("requests: 5", "requests: 0", "requests", "at least 1"),
        ("loads: [0.5, 1]", "loads: [0.5, 0]", "loads", "more than 0"),
        ("of: burst, ", "", "loads", "shares of"),
        ("of: burst", "of: later", "workloads", "later"),
        ("loads: [0.5, 1]", "loads: [1], rates: [2]", "loads", "give rates, or loads"),
        ("systems: [continuous]", "systems: [static]", "workloads", "'static'"),
        ("systems: [continuous]", "trace: x.csv", "trace", "own times"),
        ("systems: [continuous]", "burstiness: 0", "burstiness", "positive"),
        ("name: continuous", "name: padded", "systems", "same name"),
        ("name: stream", "name: burst", "workloads", "same name"),
        ("name: padded", "name: [padded", "scenario", "YAML"),
    ],
)
def test_what_is_wrong_is_named(old: str, new: str, field: str, says: str) -> None:
    assert old in GOOD
    with pytest.raises(InvalidRequest, match="mine") as raised:
        parse_scenario(GOOD.replace(old, new, 1), name="mine")
    assert raised.value.field == field
    assert says in raised.value.message


@pytest.mark.parametrize("text", ["", "- 1", "title: x\nsystems: []\nworkloads: []", "a: [1"])
def test_what_is_no_scenario_at_all_is_refused(text: str) -> None:
    with pytest.raises(InvalidRequest):
        parse_scenario(text)


def test_scenarios_that_ship_are_read_and_their_groups_made() -> None:
    names = {"policies", "quick", "published-cpu", "published-gpu", "disaggregation"}
    assert names <= set(scenario_names())
    for name in scenario_names():
        scenario = load_scenario(name)
        reached = {load.name: 2.0 for load in scenario.workloads}
        for load in scenario.workloads:
            groups = make_groups(load, seed=scenario.seed, reached=reached)
            assert len(groups) == max(1, len(load.loads), len(load.rates))
            for group in groups:
                assert len(group.workload.requests) == load.requests
                assert group.longest <= (scenario.kv_tokens or group.longest)


def test_a_file_is_found_by_path_and_its_traces_beside_it(tmp_path: Path) -> None:
    text = GOOD.replace(', output: "exponential:3:4", cap: 8}', ", trace: azure.csv}")
    path = tmp_path / "mine.yaml"
    path.write_text(text.replace("- {<<: *burst, name: stream, of: burst, loads: [0.5, 1], ", "#"))
    scenario = load_scenario(str(path))
    assert scenario.workloads[0].trace == str(tmp_path / "azure.csv")


def test_no_such_file_is_an_error_that_lists_the_names() -> None:
    with pytest.raises(InvalidRequest, match="quick"):
        load_scenario("no-such-scenario")


def system(name: str = "a", **changes: Any) -> System:
    return System(name=name, **({"policy": "static"} | changes))


def test_a_system_may_be_several_engines_that_share_the_memory() -> None:
    text = GOOD.replace("policy: continuous", "policy: paced, roles: 'prefill,decode:2'")
    scenario = parse_scenario(text)
    padded, apart = scenario.systems
    assert (padded.fleet.replicas, apart.fleet.replicas) == (1, 3)
    assert apart.fleet == FleetConfig(replicas=3, roles="prefill,decode:2")
    assert scenario.kv_tokens_of(padded) == 1792
    assert scenario.kv_tokens_of(apart) == 597
    assert scenario.hands_over
    assert not parse_scenario(GOOD).hands_over
    assert (
        parse_scenario(
            GOOD.replace("kv_tokens: 1792", "").replace("slots: auto", "slots: 2")
        ).kv_tokens_of(apart)
        is None
    )


def test_disaggregation_sets_both_ways_side_by_side_under_objectives() -> None:
    scenario = load_scenario("disaggregation")
    assert [(each.fleet.replicas, each.roles, each.fixed_roles) for each in scenario.systems] == [
        (1, None, False),
        (2, None, False),
        (2, "prefill,decode", False),
        (2, "prefill,decode", True),
    ]
    assert any(load.slo and load.loads for load in scenario.workloads)
    assert all(scenario.taking_part(load) == scenario.systems for load in scenario.workloads)
    for load in scenario.workloads:
        for group in make_groups(load, seed=1, reached={"mixture": 1.0}):
            for each in scenario.systems:
                assert group.longest <= (scenario.kv_tokens_of(each) or 0)


def test_rules_hold_without_a_file_too() -> None:
    load = ScenarioLoad(name="w", requests=1)
    for changes in ({"warmup": -1}, {"repeats": 0}, {"systems": ()}, {"workloads": ()}):
        given: dict[str, Any] = {"systems": (system(),), "workloads": (load,), "title": "t"}
        with pytest.raises(InvalidRequest) as raised:
            Scenario(**(given | changes))
        assert raised.value.field == next(iter(changes))
    with pytest.raises(InvalidRequest, match="repeats"):
        system(repeats=0)
    with pytest.raises(InvalidRequest, match="repeats"):
        ScenarioLoad(name="w", requests=1, repeats=0)
