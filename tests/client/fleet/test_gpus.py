"""Which engine computes on which GPU, and how much of its memory it takes."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

import pytest

from headway import machine
from headway.client.fleet.gpus import GpuShares, usable_gpus
from headway.config import EngineConfig
from tests.client.fleet.test_processes import running_fleet
from tests.client.support import alive, until

AUTO = EngineConfig()


def have(monkeypatch: pytest.MonkeyPatch, *gpus: str) -> None:
    monkeypatch.setattr(machine, "nvidia_gpus", lambda: gpus)


def placed(shares: GpuShares, replicas: int) -> list[str]:
    taken: list[str] = []
    for _ in range(replicas):
        taken.append(shares.choose(taken))
    return taken


@pytest.mark.parametrize(
    ("gpus", "replicas", "where", "memory"),
    [
        (("0", "1"), 2, ["0", "1"], [None, None]),
        (("3", "GPU-a", "1"), 2, ["3", "GPU-a"], [None, None]),
        (("0", "1"), 4, ["0", "1", "0", "1"], [0.45, 0.45, 0.45, 0.45]),
        # One that has a GPU to itself has its whole memory.
        (("0", "1"), 3, ["0", "1", "0"], [0.45, None, 0.45]),
        (("0",), 3, ["0", "0", "0"], [0.3, 0.3, 0.3]),
        ((), 2, ["", ""], [None, None]),
    ],
)
def test_engines_take_turns_on_the_gpus_and_share_the_memory_of_each(
    monkeypatch: pytest.MonkeyPatch,
    gpus: Sequence[str],
    replicas: int,
    where: list[str],
    memory: list[float | None],
) -> None:
    have(monkeypatch, *gpus)
    shares = GpuShares(AUTO, replicas)
    assert placed(shares, replicas) == where
    told = [shares.settings(AUTO, gpu).gpu_memory_utilization for gpu in where]
    assert told == [None if each is None else pytest.approx(each) for each in memory]


def test_an_added_one_takes_the_gpu_with_the_fewest_engines(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    have(monkeypatch, "0", "1", "2")
    shares = GpuShares(AUTO, 4)
    assert shares.choose(["0", "1", "2", "0"]) == "1"
    assert shares.choose(["1", "2", "0"]) == "0"
    assert shares.choose(["0", "2", "0"]) == "1"


def test_memory_that_was_asked_for_is_divided_or_that_of_each(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    have(monkeypatch, "0")
    shares = GpuShares(AUTO, 2)
    assert shares.settings(EngineConfig(gpu_memory_utilization=0.6), "0") == EngineConfig(
        gpu_memory_utilization=0.3
    )
    given = EngineConfig(kv_cache_memory=2**20)
    assert shares.settings(given, "0") is given


def test_engines_that_compute_on_a_cpu_have_no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    have(monkeypatch, "0", "1")
    cpu = (EngineConfig(device="cpu"), EngineConfig(backend="native", device="cpu"))
    for config in (*cpu, EngineConfig(backend="native")):
        assert usable_gpus(config) == ()
        assert placed(GpuShares(config, 2), 2) == ["", ""]
    assert usable_gpus(EngineConfig(device="cuda")) == ("0", "1")


def seen_by(pid: int, folder: Path) -> str | None:
    """The GPUs that an engine process has for its own."""
    told = dict(line.split(" ", 1) for line in (folder / "gpus.log").read_text().splitlines())
    return {"-": None}.get(told[str(pid)], told[str(pid)])


def test_each_process_sees_its_own_gpu_also_after_a_restart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    have(monkeypatch, "2", "GPU-b")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,GPU-b")

    async def main() -> None:
        async with running_fleet(tmp_path, replicas=3) as fleet:

            def told() -> list[tuple[str, str | None]]:
                return [(each.gpu, seen_by(each.pid or 0, tmp_path)) for each in fleet.replicas]

            assert told() == [("2", "2"), ("GPU-b", "GPU-b"), ("2", "2")]
            before = fleet.replicas[1].pid or 0
            await fleet.restart()
            assert not alive(before)
            assert told() == [("2", "2"), ("GPU-b", "GPU-b"), ("2", "2")]
            await fleet.drain(0)
            await fleet.drain(1)
            assert await fleet.add_replica() == 3
            await until(lambda: len(fleet.replicas) == 2)
            assert told() == [("2", "2"), ("GPU-b", "GPU-b")]

    asyncio.run(main())


def test_where_there_is_no_gpu_processes_see_what_they_would_see_anyway(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    have(monkeypatch)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)

    async def main() -> None:
        async with running_fleet(tmp_path) as fleet:
            for each in fleet.replicas:
                assert (each.gpu, seen_by(each.pid or 0, tmp_path)) == ("", None)

    asyncio.run(main())
