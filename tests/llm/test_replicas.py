"""Several engines: how many there may be, and `AsyncLLM` and `LLM` over them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from headway import machine
from headway.config import EngineConfig, ServerConfig
from headway.errors import InvalidRequest
from headway.llm import LLM
from headway.llm.machine_bounds import check_machine
from headway.llm.replicas import KV_MOST, check_replicas, shared_settings
from headway.types import SamplingParams
from headway.types.fleet import MOST_REPLICAS, FleetConfig
from tests.client.fake_engine import COMMAND
from tests.client.support import alive, started
from tests.llm.support import serve_fake, write_prepared


@pytest.mark.parametrize("replicas", [0, -1, MOST_REPLICAS + 1, 2.0, True, "2"])
def test_there_are_one_to_the_most(replicas: Any) -> None:
    for make in (FleetConfig, ServerConfig, LLM):
        with pytest.raises(InvalidRequest, match="replicas must be") as caught:
            make(replicas=replicas)
        assert caught.value.field == "replicas"


def test_an_unknown_router_is_told_which_there_are() -> None:
    makers: tuple[Any, ...] = (FleetConfig, ServerConfig, LLM)
    for make in makers:
        with pytest.raises(InvalidRequest, match="round-robin, least-requests") as caught:
            make(router="predictd")
        assert "did you mean predicted" in caught.value.message
        assert caught.value.field == "router"


def test_a_recording_needs_a_file_for_each() -> None:
    check_replicas(EngineConfig(record="steps.jsonl"), FleetConfig())
    check_replicas(EngineConfig(record="steps-{replica}.jsonl"), FleetConfig(replicas=2))
    with pytest.raises(InvalidRequest, match=r"steps-\{replica\}\.jsonl") as caught:
        check_replicas(EngineConfig(record="steps.jsonl"), FleetConfig(replicas=2))
    assert caught.value.field == "record"


def test_memory_is_divided_where_nobody_said_how_much(monkeypatch: pytest.MonkeyPatch) -> None:
    alone = EngineConfig()
    assert shared_settings(alone, 1) is alone
    monkeypatch.setattr(machine, "nvidia_gpus", tuple)
    monkeypatch.setattr(machine, "available_memory", lambda: 8 * 2**30)
    assert shared_settings(alone, 2).kv_cache_memory == 2 * 2**30
    assert shared_settings(alone, 4).kv_cache_memory == 2**30
    # However much there is, each takes no more than one alone would.
    monkeypatch.setattr(machine, "available_memory", lambda: 2**40)
    assert shared_settings(alone, 2).kv_cache_memory == KV_MOST
    assert shared_settings(EngineConfig(device="cuda"), 2).gpu_memory_utilization == 0.45
    # That of GPUs the fleet divides.
    monkeypatch.setattr(machine, "nvidia_gpus", lambda: ("0",))
    assert shared_settings(alone, 2) is alone
    assert shared_settings(EngineConfig(device="cpu"), 2).kv_cache_memory == KV_MOST


def test_memory_that_was_asked_for_is_that_of_each_and_a_share_is_of_all() -> None:
    given = EngineConfig(kv_cache_memory=2**20)
    assert shared_settings(given, 4) is given
    share = shared_settings(EngineConfig(gpu_memory_utilization=0.8), 4)
    assert (share.gpu_memory_utilization, share.kv_cache_memory) == (0.2, None)


def test_the_machine_must_have_the_memory_of_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "total_memory", lambda: 2**30)
    monkeypatch.setattr(machine, "has_nvidia_gpu", lambda: False)
    check_machine(EngineConfig(kv_cache_memory=2**28), replicas=4)
    with pytest.raises(InvalidRequest, match=r"0\.25 GiB .* for each of 4 replicas"):
        check_machine(EngineConfig(kv_cache_memory=2**28 + 1), replicas=4)


@pytest.fixture
def pair(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[LLM]:
    serve_fake(monkeypatch, write_prepared(tmp_path))
    with LLM(command=COMMAND, seed=1, replicas=2, router="round-robin") as llm:
        yield llm
    assert not any(alive(pid) for pid in started(tmp_path))


def test_a_script_has_several_engines_and_the_answers_of_one(
    pair: LLM, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert len(set(started(tmp_path))) == 2
    params = [SamplingParams(max_tokens=length, seed=1) for length in (30, 2, 11, 7)]
    prompts = ["a", "b", "c", "d"]
    both = pair.generate(prompts, params, use_tqdm=False)
    assert [each.given for each in pair.engine.client.replicas] == [2, 2]
    with LLM(command=COMMAND, seed=1) as one:
        alone = one.generate(prompts, params, use_tqdm=False)
    assert [each.outputs for each in both] == [each.outputs for each in alone]
