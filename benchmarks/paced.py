"""`paced` against every fixed setting: attainment and goodput over all offered requests.

    python benchmarks/paced.py h100 --traces DIR --held --out h100.json
    python benchmarks/paced.py machine --profile NAME --traces DIR --ablate --out machine.json
    python benchmarks/paced.py real --settings 32x256 64x512 --runs 5 --out real.json

`h100` simulates Llama-3.1-8B on one H100 by its published rates under three public traces, with a
random refusal and one who knows all costs as further baselines, and what no schedule can beat.
`machine` simulates this machine by its profile, steady and under loads that shift. `real` runs the
given fixed settings and `paced` on the real engine, in turns.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import math
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import paced_real
from headway.config import DEFAULT_MODEL
from headway.perf.sim.roofline import known_device, known_model, roofline_profile
from headway.perf.sim.simulate import shares_prefixes
from headway.steptime.profiles import Profile, load_profile
from headway.types.objectives import parse_objectives
from paced_loads import RATES, Load, Machine, kinds, traced
from paced_oracle import bound
from paced_sim import (
    LARGE,
    PACED,
    SMALL,
    STEADY_SHARE,
    Figures,
    Job,
    Refusal,
    System,
    ablations,
    at_random,
    best,
    capacity,
    costliest,
    fixed_systems,
    held,
    job_of,
    paced_system,
    run_all,
)
from served import about_this_machine

RANDOM = (0.1, 0.2, 0.3)
"""Shares of the requests that are turned away at random."""
COSTLIEST = (0.04, 0.06, 0.08, 0.10)
"""Shares of the costliest requests that are turned away by one who knows them."""
BEST = 2
"""Fixed settings that are tried with refusals before them, and for the load that they hold."""
BURST, REAL_BURST = 192, 96
"""Requests at once by which capacity is found, in the simulator and on the real engine."""
COLUMNS = (
    ("attained", "attainment", 100),
    ("late", "late_share", 100),
    ("shed", "shed_share", 100),
    ("of answered", "on_time_of_answered", 100),
    ("good req/s", "request_goodput", 1),
    ("on time tok/s", "on_time_output_throughput", 1),
    ("TTFT p50 s", "p50_ttft_ms", 1e-3),
    ("TTFT p99 s", "p99_ttft_ms", 1e-3),
    ("TPOT p50 ms", "p50_tpot_ms", 1),
    ("TPOT p99 ms", "p99_tpot_ms", 1),
    ("gap ms", "largest_gap_ms", 1),
)
Row = dict[str, Any]


def shown(rows: Sequence[Mapping[str, Any]]) -> str:
    """A table for each load, the best first. Shares are percent."""
    lines = []
    width = max(len(row["system"]) for row in rows)
    for load in dict.fromkeys(row["load"] for row in rows):
        heads = "  ".join(f"{head:>13}" for head, _, _ in COLUMNS)
        lines += ["", load, f"{'':<{width}}  {heads}"]
        of_load = [row for row in rows if row["load"] == load]
        for row in sorted(of_load, key=lambda each: -each["attainment"]):
            cells = "  ".join(
                f"{row[name] * scale:>13.2f}" if name in row else f"{'-':>13}"
                for _, name, scale in COLUMNS
            )
            lines.append(f"{row['system']:<{width}}  {cells}")
    return "\n".join(lines)


def rows_of(jobs: Sequence[Job], processes: int) -> list[Row]:
    def told(job: Job, figures: Figures) -> None:
        print(f"{job.load.name} | {job.label}: {figures['attainment']:.1%}", file=sys.stderr)

    return [
        {
            "load": job.load.name,
            "family": job.load.family,
            "system": job.label,
            "refused": len(job.refused),
            "policy": job.system.policy,
            "max_num_seqs": job.system.max_num_seqs,
            "max_num_batched_tokens": job.system.max_num_batched_tokens,
            **figures,
        }
        for job, figures in zip(jobs, run_all(jobs, processes, told), strict=True)
    ]


def compared(
    loads: Sequence[Load], profile: Profile, given: argparse.Namespace, fixed: Sequence[System]
) -> list[Row]:
    """All systems on all loads; where none holds a load, the best fixed ones with refusals too."""
    paced = [system for system in (paced_system(),) if system is not None]
    systems = [*fixed, *paced, *(ablations() if given.ablate else [])]
    rows = rows_of(
        [job_of(load, system, profile) for load in loads for system in systems], given.processes
    )
    further = []
    for load in loads if given.refusals else ():
        if max(row["attainment"] for row in rows if row["load"] == load.name) >= STEADY_SHARE:
            continue
        names = best_fixed(row for row in rows if row["family"] == load.family)
        for system in (each for each in fixed if each.name in names):
            further += [
                job_of(load, system, profile, refusal, label)
                for label, refusal in refusals(profile).items()
            ]
    return rows + rows_of(further, given.processes)


def refusals(profile: Profile) -> dict[str, Refusal]:
    model = profile.step_times()
    found = {f"{share:.0%} refused at random": at_random(share) for share in RANDOM}
    return found | {
        f"costliest {share:.0%} refused": costliest(share, model) for share in COSTLIEST
    }


def best_fixed(rows: Iterable[Row], count: int = BEST) -> list[str]:
    """The best of the fixed settings alone."""
    return best((row for row in rows if row["policy"] != PACED and not row["refused"]), count)


def ratios(rows: Sequence[Row]) -> dict[str, dict[str, float]]:
    """By load: what `paced` attains beside the best fixed setting, and its goodput over theirs."""
    found = {}
    for load in dict.fromkeys(row["load"] for row in rows):
        of_load = {row["system"]: row for row in rows if row["load"] == load}
        paced = of_load.get(PACED)
        if paced is None:
            continue
        (name,) = best_fixed(of_load.values(), 1)
        good = max(
            row["request_goodput"]
            for row in of_load.values()
            if row["policy"] != PACED and not row["refused"]
        )
        found[load] = {
            "paced": paced["attainment"],
            "best fixed": of_load[name]["attainment"],
            "goodput ratio": paced["request_goodput"] / good if good else math.inf,
        }
    return found


def on_h100(given: argparse.Namespace) -> Row:
    profile = roofline_profile(known_device("h100"), known_model("llama-3.1-8b"))
    objectives = parse_objectives(given.slo or "ttft_p99=1s,tpot_p99=30ms")
    fixed = fixed_systems(LARGE)

    def load_at(trace: str, rate: float) -> Load:
        return traced(given.traces, trace, rate, given.requests or 4000, objectives)

    names = given.loads or [*RATES]
    loads = [load_at(trace, rate) for trace in names for rate in given.rates or RATES[trace]]
    bounds = {
        load.name: bound(load.workload, profile.step_times())
        for load in loads
        if not shares_prefixes(load.workload)
    }
    print(json.dumps(bounds, indent=1))
    rows = compared(loads, profile, given, fixed)
    record: Row = {"objectives": [*map(str, objectives)], "rows": rows, "bounds": bounds}
    if given.held:
        record["held"] = [
            {"trace": trace, **each}
            for trace in names
            for each in held_by(load_at(trace, 1.0), trace, profile, fixed, rows)
        ]
    return record | {"against the best fixed": ratios(rows)}


def held_by(
    load: Load, trace: str, profile: Profile, fixed: Sequence[System], rows: Sequence[Row]
) -> list[Row]:
    """The load that the best fixed settings, the other engines' defaults and `paced` hold."""
    # Which setting holds most shows at one rate or another, so the best at each rate are tried.
    of_trace = [row for row in rows if row["family"] == trace]
    names = {
        name
        for rate in {row["load"] for row in of_trace}
        for name in best_fixed(row for row in of_trace if row["load"] == rate)
    }
    systems = [each for each in fixed if each.name in names or "(" in each.name]
    systems += [each for each in (paced_system(),) if each is not None]
    found: list[Row] = []
    for system in systems:
        rate, tried = held(system, profile, load, RATES[trace][0], 1.5 * RATES[trace][-1])
        print(f"{trace} | {system.name}: 99 % attained up to {rate:.2f} times its rate", flush=True)
        found.append({"system": system.name, "held": rate, "tried": tried})
    most = max(each["held"] for each in found if each["system"] != PACED)
    return [{**each, "over best fixed": each["held"] / most if most else None} for each in found]


def on_this_machine(given: argparse.Namespace) -> Row:
    if given.profile is None:
        profile = roofline_profile(
            known_device("zen4-2core"), known_model("smollm2-135m"), dtype="int8"
        )
    else:
        profile = load_profile(given.profile)
    fixed = fixed_systems(SMALL)

    @cache
    def served(kind: str) -> float:
        return capacity(profile, fixed, kinds(given.traces)[kind](BURST, 0))

    machine = Machine(
        capacity=served,
        objectives=parse_objectives(given.slo or "ttft_p99=1s,tpot_p99=50ms"),
        requests=given.requests or 1500,
        traces=given.traces,
    )
    loads = chosen_loads(machine, given.loads)
    rows = compared(loads, profile, given, fixed)
    five = best(
        [row for row in rows if row["policy"] != PACED and "refused" not in row["system"]], 5
    )
    print(f"best five over all loads: {', '.join(five)}")
    return {
        "profile": profile.model,
        "hardware": profile.hardware.device,
        "capacity": {kind: served(kind) for kind in kinds(given.traces)},
        "objectives": [*map(str, machine.objectives)],
        "best five": five,
        "rows": rows,
        "against the best fixed": ratios(rows),
    }


def chosen_loads(machine: Machine, names: Sequence[str] | None) -> list[Load]:
    known = machine.loads()
    for name in names or ():
        if name not in known:
            sys.exit(f"--loads: {name!r} is none of {', '.join(known)}")
    return [make() for name, make in known.items() if not names or name in names]


def kinds_in(machine: Machine, names: Sequence[str] | None) -> list[str]:
    """The kinds of requests that these loads are made of."""
    asked: dict[str, None] = {}

    def noted(kind: str) -> float:
        asked[kind] = None
        return 1.0

    chosen_loads(replace(machine, capacity=noted), names)
    return [*asked]


async def really(given: argparse.Namespace) -> Row:
    wanted = {tuple(map(int, each.split("x"))) for each in given.settings}
    fixed = [
        System(name=f"{cap} x {budget}", max_num_seqs=cap, max_num_batched_tokens=budget)
        for cap, budget in sorted(wanted)
    ]
    systems = fixed + [each for each in (paced_system(),) if each is not None]
    machine = Machine(
        capacity=lambda _: 1.0,
        objectives=parse_objectives(given.slo or "ttft_p99=1s,tpot_p99=50ms"),
        requests=given.requests or 400,
        traces=given.traces,
    )
    rates: dict[str, float] = {}
    for kind in kinds_in(machine, given.loads):
        burst = kinds(given.traces)[kind](REAL_BURST, 0)
        found = [await paced_real.capacity(system, given.model, burst) for system in fixed]
        rates[kind] = max(found)
        print(f"capacity, {kind}: {rates[kind]:.2f} requests/s", flush=True)
    machine = replace(machine, capacity=rates.__getitem__)

    def told(load: Load, system: System, figures: Figures) -> None:
        print(f"{load.name} | {system.name}: {figures['attainment']:.1%}", file=sys.stderr)

    loads = chosen_loads(machine, given.loads)
    rows = await paced_real.run_all(loads, systems, given.model, given.runs, told)
    return {
        "model": given.model,
        "capacity": rates,
        "objectives": [*map(str, machine.objectives)],
        "rows": rows,
        "paced over the best fixed": {
            figure: paced_real.against(rows, PACED, figure)
            for figure in ("attainment", "request_goodput", "on_time_output_throughput")
        },
    }


def main() -> None:
    parser = argparse.ArgumentParser(description="paced against every fixed setting")
    parser.add_argument("where", choices=("h100", "machine", "real"))
    parser.add_argument("--traces", type=Path, help="folder of the public traces")
    parser.add_argument("--slo", help="instead of the objectives of each machine")
    parser.add_argument("--requests", type=int, help="of each load")
    parser.add_argument("--loads", nargs="+", help="only these; of h100: only these traces")
    parser.add_argument(
        "--rates", nargs="+", type=float, help="of h100: times the trace's own rate"
    )
    parser.add_argument("--held", action="store_true", help="of h100: the load held at 99 %%")
    parser.add_argument("--no-refusals", dest="refusals", action="store_false")
    parser.add_argument("--ablate", action="store_true", help="each parameter of paced turned off")
    parser.add_argument("--profile", help="of machine: a kept profile, or its file")
    parser.add_argument("--model", default=DEFAULT_MODEL, help="of real")
    parser.add_argument("--settings", nargs="+", default=[], help="of real: such as 64x512")
    parser.add_argument("--runs", type=int, default=5, help="of real")
    parser.add_argument("--processes", type=int, default=1, choices=(1, 2))
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    if given.where == "h100" and given.traces is None:
        parser.error("h100 needs --traces")
    if given.where == "real" and not given.settings:
        parser.error("real needs --settings, such as the best five that machine names")
    simulated = {"h100": on_h100, "machine": on_this_machine}
    make = simulated.get(given.where)
    record = asyncio.run(really(given)) if make is None else make(given)
    print(shown(record["rows"]))
    for name in ("against the best fixed", "paced over the best fixed"):
        if name in record:
            print(f"\n{name}\n{json.dumps(record[name], indent=1)}")
    if given.out is not None:
        about = about_this_machine() | {"program": f"benchmarks/paced.py {given.where}"}
        given.out.write_text(json.dumps(about | record, indent=1) + "\n")


if __name__ == "__main__":
    main()
