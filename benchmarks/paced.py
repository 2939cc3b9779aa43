"""`paced` against every fixed setting: attainment and goodput over all offered requests.

    python benchmarks/paced.py h100 --traces DIR --held --out h100.json
    python benchmarks/paced.py machine --profile NAME --traces DIR --ablate --out machine.json
    python benchmarks/paced.py real --settings 32x256 64x512 --overload shed --out real.json

`h100` simulates Llama-3.1-8B on one H100 by its published rates under three public traces, with a
random refusal and one who knows all costs as further baselines, and what no schedule can beat.
`machine` simulates this machine by its profile, steady and under loads that shift. `real` runs the
given fixed settings and `paced` on the real engine, in turns; `--overload shed` adds `paced` that
refuses, above capacity.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import math
import sys
from collections.abc import Iterable, Sequence
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
    held,
    job_of,
    paced_system,
    run_all,
    settings_of,
)
from paced_tables import progress, shown, spread
from served import about_this_machine

RANDOM = (0.1, 0.2, 0.3)
"""Shares of the requests that are turned away at random."""
COSTLIEST = (0.04, 0.06, 0.08, 0.10)
"""Shares of the costliest requests that are turned away by one who knows them."""
BEST = 2
"""Fixed settings that are tried with refusals before them, and for the load that they hold."""
BURST, REAL_BURST = 192, 96
"""Requests at once by which capacity is found, in the simulator and on the real engine."""
ABOVE = ("steady 150%",)
"""Loads at which refusing is told apart."""
Row = dict[str, Any]


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
    fixed = settings_of(given.settings, LARGE)

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
    fixed = settings_of(given.settings, SMALL)

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
    fixed = settings_of(given.settings, ())
    systems = fixed + [each for each in (paced_system(),) if each is not None]
    machine = Machine(
        capacity=lambda _: 1.0,
        objectives=parse_objectives(given.slo or "ttft_p99=1s,tpot_p99=50ms"),
        requests=given.requests or 400,
        traces=given.traces,
    )
    rates: dict[str, float] = dict(given.capacity)
    for kind in kinds_in(machine, given.loads):
        if kind not in rates:
            burst = kinds(given.traces)[kind](REAL_BURST, 0)
            found = [await paced_real.capacity(system, given.model, burst) for system in fixed]
            rates[kind] = max(found)
        print(f"capacity, {kind}: {rates[kind]:.2f} requests/s", flush=True)
    record: Row = {
        "model": given.model,
        "capacity": rates,
        "objectives": [*map(str, machine.objectives)],
        "rows": [],
    }
    for load in chosen_loads(replace(machine, capacity=rates.__getitem__), given.loads):
        of_load = [*systems, *shedding(load, given)]
        record["rows"] += await paced_real.run_all(load, of_load, given.model, given.runs, progress)
        write(record, given)  # what is broken off later has not been for nothing
    return record | {
        "paced over the best fixed": {
            figure: paced_real.against(record["rows"], PACED, figure)
            for figure in ("attainment", "request_goodput", "on_time_output_throughput")
        },
    }


def shedding(load: Load, given: argparse.Namespace) -> list[System]:
    """`paced` that refuses, where it was asked for and the load is above capacity."""
    found = paced_system(overload="shed") if given.overload == "shed" else None
    return [found] if found is not None and load.name in ABOVE else []


def rate_of(text: str) -> tuple[str, float]:
    """`KIND=REQUESTS_PER_SECOND`."""
    kind, _, rate = text.partition("=")
    if kind not in kinds(Path()) or not rate.replace(".", "", 1).isdigit() or not float(rate):
        raise argparse.ArgumentTypeError(f"{text!r} is not KIND=RATE of {', '.join(kinds(Path()))}")
    return kind, float(rate)


def arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="paced against every fixed setting")
    parser.add_argument("where", choices=("h100", "machine", "real"))
    parser.add_argument("--traces", type=Path, help="folder of the public traces")
    parser.add_argument("--slo", help="instead of the objectives of each machine")
    parser.add_argument("--requests", type=int, help="of each load")
    parser.add_argument("--loads", nargs="+", help="only these; of h100: only these traces")
    parser.add_argument(
        "--rates", nargs="+", type=float, help="of h100: times the trace's own rate"
    )
    parser.add_argument(
        "--settings", nargs="+", default=[], help="the fixed ones, such as 64x512, for the grid"
    )
    parser.add_argument("--held", action="store_true", help="of h100: the load held at 99 %%")
    parser.add_argument("--no-refusals", dest="refusals", action="store_false")
    parser.add_argument("--ablate", action="store_true", help="each parameter of paced turned off")
    parser.add_argument("--profile", help="of machine: a kept profile, or its file")
    parser.add_argument("--model", default=DEFAULT_MODEL, help="of real")
    parser.add_argument("--runs", type=int, default=5, help="of real")
    parser.add_argument(
        "--overload", choices=("shed",), help="of real: paced that refuses, beside the others"
    )
    parser.add_argument(
        "--capacity", nargs="+", type=rate_of, default=[], help="of real: KIND=RATE, not to find it"
    )
    parser.add_argument("--processes", type=int, default=1, choices=(1, 2))
    parser.add_argument("--out", type=Path)
    return parser


def main() -> None:
    parser = arguments()
    given = parser.parse_args()
    if given.where == "h100" and given.traces is None:
        parser.error("h100 needs --traces")
    if given.where == "real" and not given.settings:
        parser.error("real needs --settings, such as the best five that machine names")
    try:
        settings_of(given.settings, ())
    except ValueError as error:
        parser.error(f"--settings: {error}")
    simulated = {"h100": on_h100, "machine": on_this_machine}
    make = simulated.get(given.where)
    record = asyncio.run(really(given)) if make is None else make(given)
    print(spread(record["rows"]) if given.where == "real" else shown(record["rows"]))
    for name in ("against the best fixed", "paced over the best fixed"):
        if name in record:
            print(f"\n{name}\n{json.dumps(record[name], indent=1)}")
    write(record, given)


def write(record: Row, given: argparse.Namespace) -> None:
    if given.out is not None:
        about = about_this_machine() | {"program": f"benchmarks/paced.py {given.where}"}
        given.out.write_text(json.dumps(about | record, indent=1) + "\n")


if __name__ == "__main__":
    main()
