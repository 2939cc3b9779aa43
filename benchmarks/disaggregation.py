"""Prefill and decode together, apart, and apart where that is better: simulated, side by side.

Four H100 with an 8B model, public traces and four pairs of objectives. `aggregated` is every engine
for everything, under `paced` and under `continuous` with large and small steps; `fixed` divides the
engines whatever comes; `elastic` has the same roles as a bias.

    python benchmarks/disaggregation.py --traces DIR --out disaggregation.json
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from headway.config import PolicyName
from headway.perf.records.summary import summarize
from headway.perf.sim.simulate import Setup, simulate
from headway.perf.workload.synthetic import at_rate
from headway.perf.workload.traces import read_trace
from headway.perf.workload.workload import Workload
from headway.types.engine import PolicyConfig
from headway.types.fleet import parse_roles
from headway.types.objectives import parse_objectives
from routers import profile
from served import about_this_machine

REPLICAS = 4
PAIRS = ("ttft=2s,tpot=50ms", "ttft=5s,tpot=15ms", "ttft=1s,tpot=25ms", "ttft=10s,tpot=9ms")
TRACES = {
    "mooncake": ("mooncake_conversation_trace.jsonl", 400),
    "azure": ("AzureLLMInferenceTrace_conv.csv", 1200),
}
LOADS = (("mooncake", 2.2), ("mooncake", 3.1), ("azure", 40.0), ("azure", 70.0))
"""Requests a second, of all engines together."""
Row = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class System:
    """One way to serve."""

    name: str
    policy: PolicyName = "paced"
    chunk: int = 8192
    roles: str | None = None
    fixed: bool = False

    @property
    def kind(self) -> str:
        if self.roles is None:
            return "aggregated"
        return "fixed" if self.fixed else "elastic"


SYSTEMS = (
    System(name="aggregated, steps of 8,192", policy="continuous"),
    System(name="aggregated, steps of 512", policy="continuous", chunk=512),
    System(name="aggregated, paced"),
    *(
        System(name=f"{kind} {prefill}+{REPLICAS - prefill}", roles=roles, fixed=kind == "fixed")
        for kind in ("fixed", "elastic")
        for prefill in (1, 2, 3)
        for roles in (f"prefill:{prefill},decode:{REPLICAS - prefill}",)
    ),
)


def workload(folder: Path, name: str, rate: float) -> Workload:
    file, count = TRACES[name]
    made = read_trace(folder / file, num_requests=count)
    return at_rate(made, rate * made.requests[-1].at / count)


def outcome(system: System, load: Workload, pair: str) -> Row:
    """The figures of one simulation."""
    machine = profile()
    limits = replace(machine.scheduler.limits, max_num_batched_tokens=system.chunk)
    scheduler = replace(machine.scheduler, policy=PolicyConfig(name=system.policy), limits=limits)
    setup = Setup(
        profile=machine,
        scheduler=scheduler,
        replicas=REPLICAS,
        roles=parse_roles(system.roles),
        fixed_roles=system.fixed,
    )
    objectives = parse_objectives(pair)
    began = time.process_time()
    found = simulate(load, setup, seed=1, objectives=objectives)
    summary = summarize(
        found.records, duration=found.duration, objectives=objectives, gaps=found.gaps
    )
    kept = ("attainment", "request_goodput", "p90_ttft_ms", "p99_tpot_ms")
    return {
        **{name: round(summary[name], 4) for name in kept if name in summary},
        "handed_over": found.handovers.requests,
        "tokens": sum(record.output_tokens for record in found.records),
        "cpu_seconds": round(time.process_time() - began, 1),
    }


def rows(given: argparse.Namespace) -> Iterator[Row]:
    for name, rate in LOADS:
        label = f"{name}, {rate:g}/s"
        if given.loads and label not in given.loads:
            continue
        load = workload(given.traces, name, rate)
        for pair in given.pairs:
            for system in SYSTEMS:
                if given.systems and system.name not in given.systems:
                    continue
                key = {"load": label, "objectives": pair, "system": system.name}
                yield key | {"kind": system.kind} | outcome(system, load, pair)


def table(found: list[Row]) -> str:
    """Markdown: a line for each system, a column for each load and pair; per cent on time."""
    columns = list(dict.fromkeys((row["load"], row["objectives"]) for row in found))
    names = list(dict.fromkeys(row["system"] for row in found))
    lines = ["| | " + " | ".join(f"{load}: {pair}" for load, pair in columns) + " | mean |"]
    lines.append("|" + "---|" * (len(columns) + 2))
    for name in names:
        cells = [
            100 * row["attainment"]
            for column in columns
            for row in found
            if (row["load"], row["objectives"]) == column and row["system"] == name
        ]
        shown = " | ".join(f"{cell:.1f}" for cell in cells)
        lines.append(f"| {name} | {shown} | {statistics.mean(cells):.1f} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--traces", type=Path, required=True, metavar="DIR")
    parser.add_argument("--loads", nargs="+", help='such as "mooncake, 3.1/s"')
    parser.add_argument("--pairs", nargs="+", default=PAIRS, help="of objectives")
    parser.add_argument("--systems", nargs="+")
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    found = []
    for row in rows(given):
        found.append(row)
        print(json.dumps(row), file=sys.stderr, flush=True)
        if given.out:
            record = about_this_machine() | {"program": "benchmarks/disaggregation.py"}
            given.out.write_text(json.dumps(record | {"rows": found}, indent=1) + "\n")
    print(table(found))


if __name__ == "__main__":
    main()
