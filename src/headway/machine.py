"""What this machine offers: cores, memory and instruction sets, as a container sees them.

Read from the operating system alone, so that the command line and the API process can ask without
importing a tensor library. Where something cannot be found out, the answer is the cautious one.
"""

from __future__ import annotations

import os
import platform
import re
from functools import cache
from pathlib import Path

_CGROUP = Path("/sys/fs/cgroup")
_OWN_CGROUP = Path("/proc/self/cgroup")
_CPUS = Path("/sys/devices/system/cpu")
_CPUINFO = Path("/proc/cpuinfo")
_MEMINFO = Path("/proc/meminfo")
_DEVICES = Path("/dev")

# Spelt as in /proc/cpuinfo; the order is from old to new.
_KNOWN_INSTRUCTION_SETS = (
    "avx2",
    "fma",
    "f16c",
    "avx512f",
    "avx512bw",
    "avx512_vnni",
    "avx512_bf16",
    "amx_bf16",
    "amx_int8",
    "asimd",
    "asimddp",
    "i8mm",
    "bf16",
)


def cores() -> int:
    """Cores this process may use: its affinity, cut to the CPU quota of its container or unit."""
    if hasattr(os, "sched_getaffinity"):
        count = len(os.sched_getaffinity(0))
    else:
        count = os.cpu_count() or 1
    quotas = (cpu_quota(folder) for folder in own_cgroups(_CGROUP, _read(_OWN_CGROUP)))
    return max(1, min(count, *(int(quota) for quota in quotas if quota is not None), count))


def own_cgroups(root: Path, own: str) -> list[Path]:
    """The folders from `root` down whose limits hold for a process: its cgroup's and all above it.

    `own` is its /proc/self/cgroup. In a container that is often the root alone; a systemd unit has
    its limits some levels below, which only version 2 tells ("0::/system.slice/some.service").
    """
    found = [root]
    for entry in own.splitlines():
        if entry.startswith("0::"):
            for name in entry.removeprefix("0::").split("/"):
                if name not in ("", ".."):
                    found.append(found[-1] / name)
    return found


def cpu_quota(cgroup: Path) -> float | None:
    """Cores that a cgroup (version 2 or 1) allows, or None without a limit."""
    modern = _read(cgroup / "cpu.max").split()
    if len(modern) == 2 and modern[0] != "max":
        return int(modern[0]) / int(modern[1])
    quota = _read(cgroup / "cpu" / "cpu.cfs_quota_us")
    period = _read(cgroup / "cpu" / "cpu.cfs_period_us")
    if quota and period and int(quota) > 0:
        return int(quota) / int(period)
    return None


def available_memory() -> int:
    """Bytes that can be allocated now without swapping, within the container's limit."""
    available = _meminfo("MemAvailable")
    if available is None:
        available = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2
    rooms = (memory_headroom(folder) for folder in own_cgroups(_CGROUP, _read(_OWN_CGROUP)))
    return min(available, *(room for room in rooms if room is not None), available)


def total_memory() -> int:
    """Bytes of physical memory."""
    total = _meminfo("MemTotal")
    return total or os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def memory_headroom(cgroup: Path) -> int | None:
    """Bytes left below a cgroup's memory limit, or None without one."""
    pairs = (
        (cgroup / "memory.max", cgroup / "memory.current"),
        (cgroup / "memory" / "memory.limit_in_bytes", cgroup / "memory" / "memory.usage_in_bytes"),
    )
    for limit_file, usage_file in pairs:
        limit, usage = _read(limit_file), _read(usage_file)
        # Version 1 spells "no limit" as a number near 2**63.
        if limit.isdigit() and usage.isdigit() and int(limit) < 2**60:
            return max(0, int(limit) - int(usage))
    return None


@cache
def instruction_sets() -> tuple[str, ...]:
    """The instruction sets that matter to the kernels and that this processor has."""
    for line in _read(_CPUINFO).splitlines():
        key, _, value = line.partition(":")
        if key.strip() in ("flags", "Features"):
            present = set(value.split())
            return tuple(name for name in _KNOWN_INSTRUCTION_SETS if name in present)
    return ()


def has_bfloat16() -> bool:
    """Whether the processor multiplies bfloat16 in hardware."""
    return any(name in instruction_sets() for name in ("avx512_bf16", "amx_bf16", "bf16"))


def has_avx2_at_most() -> bool:
    """Whether the processor has what the kernels for AVX2 need, and not AVX-512."""
    present = instruction_sets()
    return {"avx2", "fma", "f16c"} <= set(present) and "avx512bw" not in present


def last_level_cache(system: Path = _CPUS) -> int:
    """Bytes of all processors' largest caches together; 0 where the system does not tell."""
    largest: dict[str, int] = {}
    for folder in system.glob("cpu[0-9]*/cache/index[0-9]*"):
        size, sharers = _read(folder / "size"), _read(folder / "shared_cpu_list")
        if size.endswith("K") and size[:-1].isdigit():
            key = f"{_read(folder / 'level')} {sharers}"
            largest[key] = int(size[:-1]) * 1024
    top = max((key.split()[0] for key in largest), default="")
    return sum(size for key, size in largest.items() if key.split()[0] == top)


def has_nvidia_gpu() -> bool:
    """Whether an NVIDIA driver is loaded and shows a device that this process may use."""
    return bool(nvidia_gpus())


def nvidia_gpus(devices: Path = _DEVICES) -> tuple[str, ...]:
    """The NVIDIA GPUs that this process may use, as `CUDA_VISIBLE_DEVICES` names each of them.

    That variable, if it is set, says which: by numbers, or by names such as "GPU-8f6d" and
    "MIG-8f6d". As in CUDA, one that is not there hides those behind it.
    """
    count = sum(each.name.removeprefix("nvidia").isdecimal() for each in devices.glob("nvidia*"))
    windows = (devices / "dxg").exists()  # which does not tell how many there are
    if not count and not windows:
        return ()
    asked = os.environ.get("CUDA_VISIBLE_DEVICES")
    if asked is None:
        return tuple(map(str, range(max(1, count))))
    found: dict[str, None] = {}
    for each in asked.split(","):
        name = each.strip()
        if re.fullmatch("[0-9]{1,9}", name) and (int(name) < count or windows):
            found[str(int(name))] = None
        elif name.startswith(("GPU-", "MIG-")):
            found[name] = None
        else:
            break
    return tuple(found)


def processor() -> str:
    """The processor's name, for people to read; Arm's are numbers of its maker and its design."""
    lines = (line.partition(":") for line in _read(_CPUINFO).splitlines())
    facts = {key.strip(): value.strip() for key, _, value in lines}
    if "model name" in facts:
        return facts["model name"]
    kind = platform.processor() or platform.machine()
    if "CPU part" in facts:
        return f"{kind} (maker {facts.get('CPU implementer', '?')}, part {facts['CPU part']})"
    return kind


def _meminfo(name: str) -> int | None:
    for line in _read(_MEMINFO).splitlines():
        key, _, value = line.partition(":")
        if key == name:
            return int(value.split()[0]) * 1024
    return None


def _read(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""
