"""What `--record` costs: throughput of the same work with and without it, in turns.

A burst of 128 requests (many sequences a step) and one stream (many short steps), each on an engine
of its own; the order changes every round. Prints medians over rounds and the ratio.

    python benchmarks/recording_cost.py --rounds 8 --out results.json
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import tempfile
from dataclasses import replace
from pathlib import Path

from headway.bench.drive import drive
from headway.bench.engine_target import EngineTarget
from headway.config import EngineConfig
from headway.llm import AsyncLLM
from headway.workload.arrivals import at_once
from headway.workload.job import Workload
from headway.workload.laws import parse_law
from headway.workload.synthetic import synthesize
from served import about_this_machine


def workloads(round_number: int) -> dict[str, tuple[Workload, int | None]]:
    """Name: jobs, and how many at a time."""

    def made(requests: int, output: str) -> Workload:
        return synthesize(
            requests=requests,
            prompt=parse_law("128"),
            output=parse_law(output),
            arrivals=at_once,
            seed=round_number,
        )

    return {
        "burst": (made(128, "exponential:96:384"), None),
        "one stream": (made(8, "128"), 1),
    }


async def throughput(config: EngineConfig, round_number: int) -> dict[str, float]:
    """Output tokens a second."""
    found = {}
    llm = await AsyncLLM.start(config)
    try:
        with EngineTarget(llm) as target:
            warm, _ = workloads(-1)["burst"]
            await drive(target, replace(warm, jobs=warm.jobs[:8]), label="warm")
            for name, (workload, at_a_time) in workloads(round_number).items():
                driven = await drive(target, workload, max_concurrency=at_a_time, label=name)
                found[name] = workload.output_tokens / driven.duration
    finally:
        await llm.close()
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    runs: list[dict[str, object]] = []
    rates: dict[tuple[str, bool], list[float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        for round_number in range(given.rounds):
            for recorded in (False, True) if round_number % 2 else (True, False):
                path = str(Path(folder) / f"{round_number}.jsonl") if recorded else None
                config = EngineConfig(record=path)
                figures = asyncio.run(throughput(config, round_number))
                runs.append({"round": round_number, "recorded": recorded, **figures})
                print(json.dumps(runs[-1]), flush=True)
                for name, rate in figures.items():
                    rates.setdefault((name, recorded), []).append(rate)
    ratios = {}
    for name in workloads(0):
        pairs = zip(rates[name, True], rates[name, False], strict=True)
        ratios[name] = statistics.median(on / off for on, off in pairs)
        print(f"{name}: recorded over not, median of rounds: {ratios[name]:.4f}")
    if given.out:
        record = about_this_machine() | {"runs": runs, "recorded over not": ratios}
        given.out.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
