"""Machine facts: real ones are sane, container limits of both cgroup versions are honoured."""

from __future__ import annotations

import os
import platform
from pathlib import Path

import pytest

from headway import machine


def test_the_real_machine_is_described_sanely() -> None:
    assert 1 <= machine.cores() <= (os.cpu_count() or 1)
    assert 0 < machine.available_memory() <= machine.total_memory()
    assert machine.processor()
    assert len(set(machine.instruction_sets())) == len(machine.instruction_sets())


@pytest.mark.parametrize(
    ("flags", "at_most"),
    [
        ("sse2 avx2 fma f16c avx_vnni", True),
        ("avx2 fma f16c avx512f avx512bw avx512_vnni", False),
        ("avx2 fma f16c avx512f avx512cd", True),  # too little of AVX-512 for its kernels
        ("avx2 fma", False),
        ("sse2", False),
    ],
)
def test_avx2_is_the_most_where_there_is_all_of_it_and_no_avx512(
    flags: str, at_most: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "cpuinfo").write_text(f"processor\t: 0\nflags\t\t: fpu {flags}\n")
    monkeypatch.setattr(machine, "_CPUINFO", tmp_path / "cpuinfo")
    machine.instruction_sets.cache_clear()
    try:
        assert machine.has_avx2_at_most() is at_most
    finally:
        machine.instruction_sets.cache_clear()


# One core of a Neoverse V1 as Linux shows it, without most of its features.
ARM_CPUINFO = """processor\t: 0
BogoMIPS\t: 2100.00
Features\t: fp asimd crc32 atomics fphp asimddp sha512 svei8mm i8mm bf16 dgh
CPU implementer\t: 0x41
CPU architecture: 8
CPU variant\t: 0x1
CPU part\t: 0xd40
CPU revision\t: 1
"""


def test_an_arm_processor_is_named_by_its_numbers_and_its_instruction_sets_are_known(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machine, "_CPUINFO", write(tmp_path, cpuinfo=ARM_CPUINFO) / "cpuinfo")
    monkeypatch.setattr(platform, "processor", lambda: "")
    monkeypatch.setattr(platform, "machine", lambda: "aarch64")
    machine.instruction_sets.cache_clear()
    try:
        assert machine.instruction_sets() == ("asimd", "asimddp", "i8mm", "bf16")
        assert machine.has_bfloat16()
    finally:
        machine.instruction_sets.cache_clear()
    assert machine.processor() == "aarch64 (maker 0x41, part 0xd40)"


def test_a_processor_without_any_name_is_called_by_its_kind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machine, "_CPUINFO", tmp_path / "absent")
    monkeypatch.setattr(platform, "processor", lambda: "")
    monkeypatch.setattr(platform, "machine", lambda: "riscv64")
    assert machine.processor() == "riscv64"


def write(folder: Path, **files: str) -> Path:
    for name, text in files.items():
        path = folder / name.replace("__", "/").replace("DOT", ".")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text + "\n")
    return folder


def test_cpu_quota_of_a_modern_cgroup(tmp_path: Path) -> None:
    assert machine.cpu_quota(write(tmp_path, cpuDOTmax="150000 100000")) == 1.5


def test_no_cpu_quota(tmp_path: Path) -> None:
    assert machine.cpu_quota(tmp_path) is None
    assert machine.cpu_quota(write(tmp_path, cpuDOTmax="max 100000")) is None


def test_cpu_quota_of_an_old_cgroup(tmp_path: Path) -> None:
    old = write(tmp_path, cpu__cpuDOTcfs_quota_us="400000", cpu__cpuDOTcfs_period_us="100000")
    assert machine.cpu_quota(old) == 4.0
    assert machine.cpu_quota(write(tmp_path, cpu__cpuDOTcfs_quota_us="-1")) is None


def test_a_unit_has_its_limits_some_levels_below_the_root(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = write(tmp_path, own="1:cpu:/elsewhere\n0::/system.slice/some.service") / "own"
    root = tmp_path / "cgroup"
    write(root, cpuDOTmax="max 100000", memoryDOTmax="max", memoryDOTcurrent="9")
    slice_, unit = root / "system.slice", root / "system.slice" / "some.service"
    write(slice_, memoryDOTmax="1000", memoryDOTcurrent="400")
    write(unit, cpuDOTmax="100000 100000", memoryDOTmax="900", memoryDOTcurrent="400")
    monkeypatch.setattr(machine, "_CGROUP", root)
    monkeypatch.setattr(machine, "_OWN_CGROUP", own)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    assert machine.cores() == 1
    assert machine.available_memory() == 500
    # Where the folders are not there, as in a container that sees its own as the root.
    write(root, cpuDOTmax="300000 100000")
    (unit / "cpu.max").unlink()
    assert machine.cores() == 3


def test_memory_headroom_of_both_versions(tmp_path: Path) -> None:
    modern = write(tmp_path / "2", memoryDOTmax="1000", memoryDOTcurrent="400")
    old = write(
        tmp_path / "1",
        memory__memoryDOTlimit_in_bytes="9223372036854771712",
        memory__memoryDOTusage_in_bytes="400",
    )
    assert machine.memory_headroom(modern) == 600
    assert machine.memory_headroom(old) is None
    assert machine.memory_headroom(tmp_path / "none") is None


def test_headroom_is_never_negative(tmp_path: Path) -> None:
    assert machine.memory_headroom(write(tmp_path, memoryDOTmax="10", memoryDOTcurrent="40")) == 0


def cache(folder: Path, cpu: int, index: int, *, level: int, size: str, shared: str) -> None:
    path = folder / f"cpu{cpu}" / "cache" / f"index{index}"
    path.mkdir(parents=True)
    for name, text in (("level", str(level)), ("size", size), ("shared_cpu_list", shared)):
        (path / name).write_text(text + "\n")


def test_largest_caches_count_once_however_many_share_them(tmp_path: Path) -> None:
    for cpu in range(4):
        cache(tmp_path, cpu, 0, level=1, size="32K", shared=str(cpu))
        cache(tmp_path, cpu, 3, level=3, size="16384K", shared="0-1" if cpu < 2 else "2-3")
    assert machine.last_level_cache(tmp_path) == 2 * 16384 * 1024


def test_caches_of_an_unknown_system_are_none(tmp_path: Path) -> None:
    assert machine.last_level_cache(tmp_path) == 0
    cache(tmp_path, 0, 0, level=1, size="?", shared="0")
    assert machine.last_level_cache(tmp_path) == 0


@pytest.fixture
def devices(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of devices with four GPUs, and no variable that says which of them may be used."""
    for name in ("nvidia0", "nvidia1", "nvidia2", "nvidia5", "nvidiactl", "nvidia-uvm", "null"):
        (tmp_path / name).touch()
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    return tmp_path


def test_gpus_are_counted_by_their_devices(devices: Path) -> None:
    assert machine.nvidia_gpus(devices) == ("0", "1", "2", "3")
    assert machine.nvidia_gpus(devices / "none") == ()


@pytest.mark.parametrize(
    ("asked", "gpus"),
    [
        ("", ()),
        ("-1", ()),
        ("2", ("2",)),
        (" 3, 01 ,0", ("3", "1", "0")),
        ("1,4,0", ("1",)),
        ("1,-1,0", ("1",)),
        ("1,,0", ("1",)),
        ("NoDevFiles", ()),
        ("0,0,1", ("0", "1")),
        ("GPU-8f6d,MIG-aa/1/0,2", ("GPU-8f6d", "MIG-aa/1/0", "2")),
        ("²", ()),
    ],
)
def test_of_gpus_only_those_that_cuda_may_see_count(
    devices: Path, monkeypatch: pytest.MonkeyPatch, asked: str, gpus: tuple[str, ...]
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", asked)
    assert machine.nvidia_gpus(devices) == gpus
    assert machine.nvidia_gpus(devices / "none") == ()


def test_windows_tells_that_there_are_gpus_but_not_how_many(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "dxg").touch()
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert machine.nvidia_gpus(tmp_path) == ("0",)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1,0")
    assert machine.nvidia_gpus(tmp_path) == ("1", "0")


def test_a_gpu_that_may_not_be_used_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "nvidia_gpus", tuple)
    assert not machine.has_nvidia_gpu()
    monkeypatch.setattr(machine, "nvidia_gpus", lambda: ("1",))
    assert machine.has_nvidia_gpu()
