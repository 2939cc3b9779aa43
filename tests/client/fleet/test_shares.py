"""Who gets which cores, and settings of one engine of several."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from headway import machine
from headway.client.fleet import shares
from headway.client.fleet.shares import CoreShares, share_of, split_cores, usable_cores
from headway.config import EngineConfig
from headway.errors import InvalidRequest


def have(monkeypatch: pytest.MonkeyPatch, cpus: int, *, quota: int | None = None) -> None:
    """This machine has so many cores, of which it may use as many at a time as the quota says."""
    monkeypatch.setattr(shares, "usable_cores", lambda: list(range(cpus)))
    monkeypatch.setattr(machine, "cores", lambda: min(cpus, quota or cpus))


def test_parts_are_equal_and_disjoint_and_a_remainder_is_left() -> None:
    assert split_cores([0, 4, 1, 5, 2, 6, 3], 3) == [(0, 4), (1, 5), (2, 6)]
    assert split_cores([7], 1) == [(7,)]


@pytest.mark.parametrize(
    ("cpus", "quota", "replicas", "given", "threads", "sets"),
    [
        (8, None, 2, None, 4, [(0, 1, 2, 3), (4, 5, 6, 7)]),
        (8, None, 3, None, 2, [(0, 1), (2, 3), (4, 5)]),
        (8, 4, 2, None, 2, [(0, 1, 2, 3), (4, 5, 6, 7)]),
        (2, None, 3, None, 1, []),
        (8, None, 2, 3, 3, [(0, 1, 2, 3), (4, 5, 6, 7)]),
        (8, None, 2, 8, 8, []),
        (1, None, 1, None, 1, [(0,)]),
    ],
)
def test_engines_share_the_cores(
    monkeypatch: pytest.MonkeyPatch,
    cpus: int,
    quota: int | None,
    replicas: int,
    given: int | None,
    threads: int,
    sets: list[tuple[int, ...]],
) -> None:
    have(monkeypatch, cpus, quota=quota)
    cores = CoreShares(EngineConfig(threads=given), replicas)
    assert cores.threads == threads
    taken: list[tuple[int, ...]] = []
    for _ in range(replicas):
        taken.append(cores.free(taken))
    assert taken == (sets or [()] * replicas)
    assert cores.free(taken) == ()
    if sets:
        assert cores.free(taken[1:]) == sets[0]


def test_threads_that_shall_be_pinned_and_cannot_are_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    have(monkeypatch, 2)
    with pytest.raises(InvalidRequest, match="3 engines, 1 each, cannot each have one of 2 cores"):
        CoreShares(EngineConfig(pin_threads=True), 3)
    assert CoreShares(EngineConfig(pin_threads=True), 2).free([]) == (0,)


def test_both_threads_of_a_core_come_next_to_each_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1, 2, 3, 5}, raising=False)
    for cpu, core in ((0, 0), (1, 1), (2, 0), (3, 1)):
        topology = tmp_path / f"cpu{cpu}" / "topology"
        topology.mkdir(parents=True)
        (topology / "physical_package_id").write_text("0\n")
        (topology / "core_id").write_text(f"{core}\n")
    assert usable_cores(tmp_path) == [0, 2, 1, 3, 5]


def test_an_engine_has_its_share_and_a_recording_of_its_own() -> None:
    config = EngineConfig(record="steps-{replica}.jsonl", pin_threads=True, kv_cache_memory=2**20)
    own = share_of(config, 7, threads=2, cpus=(3, 4))
    assert (own.record, own.threads, own.pin_threads) == ("steps-7.jsonl", 2, True)
    assert own.kv_cache_memory == 2**20
    assert not share_of(config, 7, threads=2, cpus=()).pin_threads
    assert share_of(EngineConfig(), 7, threads=2, cpus=()).record is None
