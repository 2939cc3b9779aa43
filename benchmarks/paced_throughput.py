"""Throughput without objectives: `paced`, of which nothing is pinned, over the best fixed setting.

On the real engine, three loads: a burst, Poisson arrivals above capacity, and the lengths of the
Azure conversation trace divided by 8, all at once. A first turn of each fixed setting finds the
best two for each load; then these and `paced` take turns, and what counts is the ratio within a
round: its median and range over the rounds.

    python benchmarks/paced_throughput.py --traces DIR --out paced_throughput.json
"""

from __future__ import annotations

import argparse
import asyncio
import json
import math
import sys
import time
from pathlib import Path
from typing import Any

import paced_real
from headway.config import DEFAULT_MODEL
from headway.perf.workload.synthetic import at_rate, gamma, rearrive
from headway.perf.workload.traces import read_trace
from headway.perf.workload.workload import Workload
from paced_loads import SMALLER, TRACES, Load, chat
from paced_sim import FIXED_POLICY, PACED, Figures, System, paced_system, settings_of
from rounds import cell, in_turns, rotated
from served import about_this_machine

SETTINGS = ("16x512", "64x512", "128x1024", "256x2048")
ABOVE = 1.5
"""Times the capacity that the burst shows."""
FINALISTS = 2
SEED = 1
FIGURE = "output_throughput"


def loads_of(requests: int, traces: Path | None, capacity: float, seed: int) -> list[Load]:
    """The loads, of which the burst is the first; `capacity` is in requests a second."""
    burst = chat(requests, seed)
    made: dict[str, Workload] = {
        "burst": burst,
        "Poisson": rearrive(burst, gamma(ABOVE * capacity), seed=seed),
    }
    if traces is not None:
        azure = read_trace(
            traces / TRACES["azure conversation"],
            num_requests=2 * requests,
            length_scale=SMALLER,
            seed=seed,
        )
        made["Azure / 8"] = at_rate(azure, math.inf)
    return [Load(name=name, family=name, workload=each) for name, each in made.items()]


async def measured(load: Load, system: System, model: str) -> Figures:
    figures = await paced_real.run(system, model, load)
    rate = figures[FIGURE]
    print(f"{load.name} | {system.name}: {rate:.0f} tokens/s", file=sys.stderr, flush=True)
    return figures


async def compared(given: argparse.Namespace) -> dict[str, Any]:
    """First turns, finalists and the rounds. `given.minutes` bound the whole of it."""
    began = time.perf_counter()
    fixed = settings_of(given.settings, ())
    burst = Load(name="burst", family="burst", workload=chat(given.requests, SEED))
    rates = {"burst": {each.name: await measured(burst, each, given.model) for each in fixed}}
    capacity = given.requests / min(each["duration"] for each in rates["burst"].values())
    loads = loads_of(given.requests, given.traces, capacity, SEED)
    for load in loads[1:]:
        rates[load.name] = {each.name: await measured(load, each, given.model) for each in fixed}
    paced = paced_system()
    assert paced is not None, "this Headway has the policy"
    runs: dict[str, dict[str, list[Figures]]] = {load.name: {} for load in loads}
    left = 60 * given.minutes - (time.perf_counter() - began)
    for number, load in in_turns(loads, given.rounds, seconds=left):
        first = rates[load.name]
        best = sorted(fixed, key=lambda each: -first[each.name][FIGURE])[:FINALISTS]
        for system in rotated([paced, *best], number):
            figures = await measured(load, system, given.model)
            runs[load.name].setdefault(system.name, []).append(figures)
    return {
        "capacity": capacity,
        "first turns": rates,
        "runs": runs,
        "paced over the best fixed": {name: against(each) for name, each in runs.items()},
    }


def against(runs: dict[str, list[Figures]]) -> dict[str, Any]:
    """By the medians the best fixed setting, and round by round what `paced` gives over it."""
    rates = {name: [figures[FIGURE] for figures in each] for name, each in runs.items()}
    own = rates.pop(PACED)
    best = max(rates, key=lambda name: sorted(rates[name])[len(rates[name]) // 2])
    return {
        "fixed": best,
        "paced tokens/s": own,
        "fixed tokens/s": rates[best],
        "ratios": [one / two for one, two in zip(own, rates[best], strict=True)],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description="paced without objectives: throughput.")
    parser.add_argument("--traces", type=Path, help="folder of the public traces")
    parser.add_argument(
        "--settings", nargs="+", default=SETTINGS, help="of continuous, each as CAPxBUDGET"
    )
    parser.add_argument("--requests", type=int, default=32, help="of each load; of Azure twice")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument(
        "--minutes", type=float, default=15, help="no round begins that would end later"
    )
    parser.add_argument("--model", default=DEFAULT_MODEL)
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    try:
        settings_of(given.settings, ())
    except ValueError as error:
        parser.error(f"--settings: {error}")
    record: dict[str, Any] = about_this_machine() | {"program": "benchmarks/paced_throughput.py"}
    record |= asyncio.run(compared(given))
    print(f"| | {PACED} tokens/s | best of {FIXED_POLICY} | its tokens/s | ratio |")
    print("|---|---|---|---|---|")
    for name, each in record["paced over the best fixed"].items():
        cells = [cell(each[key]) for key in ("paced tokens/s", "fixed tokens/s", "ratios")]
        print(f"| {name} | {cells[0]} | {each['fixed']} | {cells[1]} | {cells[2]} |")
    if given.out is not None:
        given.out.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
