"""What each engine of a fleet has for itself: cores, and a file to record into.

Threads of two engines that share a core make the steps of both slow and their times unsteady. So
engines get disjoint cores, and both threads of a core go to the same engine. All get equally many:
what one engine has learned of a step's duration holds for all. A remainder is left to the API
process. Where there are fewer cores than engines, nobody is pinned and each has one thread.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Sequence
from dataclasses import replace
from pathlib import Path

from headway import machine
from headway.config import EngineConfig
from headway.errors import InvalidRequest

PLACE = "{replica}"
"""Stands for an engine's id in the name of its recording."""
_CPUS = Path("/sys/devices/system/cpu")


class CoreShares:
    """The cores that this process may use, in as many equal sets as there are to be engines."""

    def __init__(self, config: EngineConfig, replicas: int) -> None:
        """Raises `InvalidRequest` where threads shall have cores of their own and cannot."""
        usable = usable_cores()
        count = machine.cores()
        self.threads = config.threads or max(1, count // replicas)
        """Of each engine: what the settings say, else its share of the cores."""
        pinned = replicas * self.threads <= count <= len(usable)
        if config.pin_threads and not pinned:
            raise InvalidRequest(
                f"the threads of {replicas} engines, {self.threads} each, cannot each have one of "
                f"{count} cores: leave pin_threads out, or start fewer replicas",
                field="pin_threads",
            )
        self._sets = split_cores(usable, replicas) if pinned else []

    def free(self, taken: Collection[tuple[int, ...]]) -> tuple[int, ...]:
        """A set that is none of those taken; empty, which means any core, where there is none."""
        return next((each for each in self._sets if each not in taken), ())


def usable_cores(system: Path = _CPUS) -> list[int]:
    """The cores that this process may run on, the threads of one core next to each other.

    Empty where the system has no such thing.
    """
    if not hasattr(os, "sched_getaffinity"):
        return []
    return sorted(os.sched_getaffinity(0), key=lambda cpu: (*_place(system, cpu), cpu))


def split_cores(cpus: Sequence[int], parts: int) -> list[tuple[int, ...]]:
    """Equal parts of these, in their order, each sorted; a remainder is in none."""
    size = len(cpus) // parts
    return [tuple(sorted(cpus[at * size : (at + 1) * size])) for at in range(parts)]


def share_of(
    config: EngineConfig, replica: int, *, threads: int, cpus: tuple[int, ...]
) -> EngineConfig:
    """The settings of one engine, which has these cores, or may use any.

    `{replica}` in the name of its recording becomes its id. All else holds for each engine as it is
    given, also what it says of memory.
    """
    record = config.record
    if record is not None:
        record = record.replace(PLACE, str(replica))
    return replace(
        config,
        threads=threads,
        pin_threads=config.pin_threads and bool(cpus),
        record=record,
    )


def _place(system: Path, cpu: int) -> tuple[int, int]:
    """Package and core of a processor; one of its own where that is not told."""
    folder = system / f"cpu{cpu}" / "topology"
    try:
        package = int((folder / "physical_package_id").read_text())
        return package, int((folder / "core_id").read_text())
    except (OSError, ValueError):
        return 0, cpu
