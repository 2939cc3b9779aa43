"""Prefill and decode apart or together, simulated: which share of requests is on time.

    python benchmarks/disaggregation.py --traces DIR --requests 900 --out disaggregation.json

Four machines, each Llama-3.1-8B on one H100 as in `routers.py`, on Mooncake's conversation trace.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path

from headway.perf.records.summary import summarize
from headway.perf.sim.simulate import Setup, simulate
from headway.perf.workload.synthetic import at_rate
from headway.perf.workload.traces import read_trace
from headway.types.engine import PolicyConfig
from headway.types.fleet import parse_roles
from headway.types.objectives import parse_objectives
from routers import KEPT, Row, profile
from served import about_this_machine

OBJECTIVES = ("ttft=2s,tpot=50ms", "ttft=5s,tpot=15ms", "ttft=1s,tpot=25ms", "ttft=10s,tpot=9ms")
ROLES = ("prefill:2,decode:2", "prefill:3,decode", "prefill,decode:3")


def setups() -> dict[str, Setup]:
    """Fleets of four, by what a table calls them."""
    machine = profile()
    plain = Setup(profile=machine, scheduler=machine.scheduler, replicas=4)
    limits = replace(machine.scheduler.limits, max_num_batched_tokens=512)
    paced = replace(machine.scheduler, policy=PolicyConfig(name="paced"))
    found = {
        "aggregated": plain,
        "aggregated, 512": replace(plain, scheduler=replace(machine.scheduler, limits=limits)),
        "aggregated, paced": replace(plain, scheduler=paced),
    }
    for text in ROLES:
        apart = replace(plain, roles=parse_roles(text))
        found[f"fixed {text}"] = replace(apart, fixed_roles=True)
        found[f"elastic {text}"] = apart
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--traces", type=Path, required=True)
    parser.add_argument("--requests", type=int, default=900)
    parser.add_argument("--rate", type=float, default=3.1, help="requests a second")
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    path = arguments.traces / "mooncake_conversation_trace.jsonl"
    made = read_trace(path, num_requests=arguments.requests)
    workload = at_rate(made, arguments.rate * made.requests[-1].at / arguments.requests)
    rows: list[Row] = []
    for text in OBJECTIVES:
        objectives = parse_objectives(text)
        for name, setup in setups().items():
            found = simulate(workload, setup, seed=1, objectives=objectives)
            summary = summarize(
                found.records, duration=found.duration, objectives=objectives, gaps=found.gaps
            )
            rows.append(
                {
                    "objectives": text,
                    "fleet": name,
                    "handed_over": found.handovers.requests,
                    "tokens": sum(record.output_tokens for record in found.records),
                    **{key: round(summary[key], 4) for key in KEPT if key in summary},
                }
            )
            print(f"{text} {name}: {rows[-1]['attainment']:.1%}", flush=True)
    if arguments.out:
        record = about_this_machine() | {"requests": arguments.requests, "rows": rows}
        arguments.out.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
