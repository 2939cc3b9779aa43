"""One memory budget: the slots and blocks that each system makes of it."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headway.config import EngineConfig
from headway.errors import InvalidRequest
from headway.perf.bench.groups import RunGroup, config_for, kv_blocks, make_groups, slots_of
from headway.perf.bench.scenario import Scenario, ScenarioLoad, System

AUTO = System(name="whole", policy="static", slots="auto")
PAGED = System(name="paged", policy="continuous")


def group(cap: int, *, prompt: int = 64, slots: int | None = None) -> RunGroup:
    load = ScenarioLoad(name="w", requests=2, prompt=prompt, output=1, cap=cap, slots=slots)
    return make_groups(load, seed=0, reached={})[0]


@pytest.mark.parametrize(("cap", "slots"), [(8, 24), (32, 18), (128, 9), (384, 4)])
def test_whole_sequences_have_the_slots_of_the_published_experiment_in_small(
    cap: int, slots: int
) -> None:
    assert slots_of(AUTO, group(cap), 1792) == slots


def test_slots_are_given_derived_or_unbounded() -> None:
    assert slots_of(PAGED, group(8), 1792) is None
    assert slots_of(System(name="s", policy="static", slots=5), group(8), 1792) == 5
    assert slots_of(AUTO, group(8, slots=7), 1792) == 7


def test_a_budget_below_one_sequence_is_an_error() -> None:
    for system in (AUTO, PAGED):
        with pytest.raises(InvalidRequest) as raised:
            kv_blocks(system, group(384), 400, 16)
        assert raised.value.field == "kv_tokens"
        assert "448" in raised.value.message


@given(
    budget=st.integers(72, 5000),
    prompt=st.integers(1, 40),
    cap=st.integers(1, 32),
    size=st.sampled_from([8, 16, 32]),
)
def test_rounding_to_blocks_takes_no_slot_away_and_gives_none(
    budget: int, prompt: int, cap: int, size: int
) -> None:
    there = group(cap, prompt=prompt)
    row = -(-(prompt + cap) // size)
    slots = slots_of(AUTO, there, budget)
    blocks = kv_blocks(AUTO, there, budget, size)
    assert slots == budget // (prompt + cap)
    assert blocks >= slots * row
    assert blocks >= budget // size
    if row <= budget // size:
        assert kv_blocks(PAGED, there, budget, size) == budget // size


def scenario(**changes: Any) -> Scenario:
    given: dict[str, Any] = {
        "title": "t",
        "kv_tokens": 1792,
        "engine": EngineConfig(block_size=16, threads=1, policy_options={"dynamic_wait": 0.2}),
        "model": "somebody's",
        "systems": (AUTO, PAGED),
        "workloads": (ScenarioLoad(name="w", requests=1),),
    }
    return Scenario(**(given | changes))


def test_the_engine_is_asked_for_the_objectives_of_the_group() -> None:
    load = ScenarioLoad(name="w", requests=1, slo="ttft_p99=1s, tpot_p99=50ms")
    [asked] = make_groups(load, seed=0, reached={})
    config = config_for(scenario(), AUTO, asked, block_bytes=1000, record=None)
    assert config.objectives_of("standard") == asked.objectives != ()
    config = config_for(scenario(), AUTO, group(384), block_bytes=1000, record=None)
    assert config.objectives_of("standard") == ()


def test_settings_follow_the_system_and_the_group() -> None:
    config = config_for(scenario(), AUTO, group(384), block_bytes=1000, record="steps.jsonl")
    assert (config.model, config.policy, config.threads) == ("somebody's", "static", 1)
    assert config.max_num_seqs == 4
    assert config.max_model_len == 448
    assert config.kv_cache_memory == 112 * 1000
    assert config.kv_reservation == "on-demand"
    assert config.policy_options == {"dynamic_wait": 0.2}
    assert config.record == "steps.jsonl"
    assert not config.enable_prefix_caching


def test_engines_side_by_side_share_the_budget() -> None:
    two = System(name="two", policy="paced", replicas=2)
    config = config_for(scenario(), two, group(8), block_bytes=1000, record=None)
    assert config.kv_cache_memory == 896 // 16 * 1000
    assert not config.enable_prefix_caching
    apart = System(name="apart", policy="static", slots="auto", roles="prefill,decode")
    given = scenario(systems=(AUTO, apart))
    config = config_for(given, apart, group(384), block_bytes=1000, record=None)
    assert config.max_num_seqs == 896 // 448
    # What one engine computes the other finds by its name, and then all systems have names.
    assert config.enable_prefix_caching
    assert config_for(given, AUTO, group(8), block_bytes=1, record=None).enable_prefix_caching
    many = System(name="many", policy="paced", replicas=6)
    with pytest.raises(InvalidRequest, match="kv_tokens: 298"):
        config_for(scenario(), many, group(384), block_bytes=1000, record=None)


def test_without_a_budget_memory_is_the_engines_own_choice() -> None:
    free = scenario(kv_tokens=None, systems=(PAGED,))
    waiting = {"dynamic_wait": 1.5}
    reserving = System(
        name="r", policy="dynamic", kv_reservation="full", policy_options=waiting, slots=3
    )
    config = config_for(free, reserving, group(8), block_bytes=None, record=None)
    assert config.kv_cache_memory is None
    assert (config.max_num_seqs, config.kv_reservation) == (3, "full")
    assert config.policy_options == waiting


def test_slots_that_were_given_for_auto_have_memory_for_whole_rows() -> None:
    # The published slots do not all follow from one budget.
    config = config_for(scenario(), AUTO, group(8, slots=3), block_bytes=10, record=None)
    assert config.kv_cache_memory == 3 * 5 * 10
