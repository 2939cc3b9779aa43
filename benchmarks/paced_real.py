"""Fixed settings and `paced` on the real engine of this machine, in turns, with their spread."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from statistics import median
from typing import Any, cast

from headway.config import EngineConfig, PolicyName
from headway.llm import AsyncLLM
from headway.perf.bench.engine_client import EngineLoadClient
from headway.perf.bench.run_load import LoadResult, run_load
from headway.perf.records.summary import summarize
from headway.perf.workload.synthetic import at_rate, warm_up
from headway.perf.workload.workload import Workload
from paced_loads import Load
from paced_sim import PACED, Figures, System, kept
from rounds import rotated

WARM_UP = 8
"""Requests that an engine answers before it is measured."""
WARM_UP_OUTPUT = 8


def config_of(system: System, model: str) -> EngineConfig:
    """The engine's settings; of `paced` nothing is pinned."""
    pinned = system.policy != PACED
    return EngineConfig(
        model=model,
        policy=cast(PolicyName, system.policy),
        policy_options={f"{system.policy}_{key}": value for key, value in system.options.items()},
        max_num_seqs=system.max_num_seqs if pinned else None,
        max_num_batched_tokens=system.max_num_batched_tokens if pinned else None,
    )


async def measured(system: System, model: str, workload: Workload) -> LoadResult:
    """The workload on an engine of its own, which is warm when the clock starts."""
    async with await AsyncLLM.start(config_of(system, model), progress=False) as llm:
        with EngineLoadClient(llm) as client:
            warming = warm_up(workload, WARM_UP, max_output=WARM_UP_OUTPUT)
            await run_load(client, warming, label="warm-up")
            return await run_load(client, workload)


async def capacity(system: System, model: str, workload: Workload) -> float:
    """Requests a second where all come at once."""
    result = await measured(system, model, at_rate(workload, math.inf))
    return sum(record.outcome == "ok" for record in result.records) / result.duration


async def run(system: System, model: str, load: Load) -> Figures:
    result = await measured(system, model, load.workload)
    figures = kept(summarize(result.records, duration=result.duration), result.records)
    figures["client_late_p99_ms"] = result.client_delay.late_p99 * 1e3
    return figures


async def run_all(
    load: Load,
    systems: Sequence[System],
    model: str,
    runs: int,
    told: Callable[[Load, System, Figures], None],
) -> list[dict[str, Any]]:
    """A row for each system: medians, and all runs. Each round begins with another system, so that
    a machine whose speed drifts favours none."""
    found: dict[str, list[Figures]] = {system.name: [] for system in systems}
    for number in range(runs):
        for system in rotated(systems, number):
            figures = await run(system, model, load)
            found[system.name].append(figures)
            told(load, system, figures)
    return [
        {"load": load.name, "system": name, **middle(each), "runs": each}
        for name, each in found.items()
    ]


def middle(runs: Sequence[Figures]) -> Figures:
    """The median of each figure that all runs have."""
    return {
        name: median(figures[name] for figures in runs)
        for name in runs[0]
        if all(name in figures for figures in runs)
    }


def against(
    rows: Sequence[Mapping[str, Any]], system: str, figure: str
) -> dict[str, dict[str, float]]:
    """By load: the system's figure over the best fixed one's, run by run, as median and range."""
    found = {}
    for load in dict.fromkeys(row["load"] for row in rows):
        of_load = {row["system"]: row for row in rows if row["load"] == load}
        own = of_load.get(system)
        fixed = [row for name, row in of_load.items() if not name.startswith(PACED)]
        if own is None or not fixed:
            continue
        other = max(fixed, key=lambda row: row[figure])
        ratios = [
            one[figure] / two[figure]
            for one, two in zip(own["runs"], other["runs"], strict=True)
            if two[figure]
        ]
        if ratios:
            found[load] = {
                "ratio": median(ratios),
                "least": min(ratios),
                "most": max(ratios),
            }
    return found
