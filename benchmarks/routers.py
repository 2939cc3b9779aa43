"""Routers before fleets of simulated engines: attainment and goodput over all offered requests.

    python benchmarks/routers.py --traces DIR --replicas 4 16 64 --out routers.json
    python benchmarks/routers.py --traces DIR --loads "mooncake x 0.8" --routers predicted
    python benchmarks/routers.py --traces DIR --routers dynamo --out routers.json
    python benchmarks/routers.py --cost

Each engine is Llama-3.1-8B on one H100 by its published rates, whose steps stray from these as far
as is usual. A router knows what one in front of real engines would: no step tells anything before
it is over. Rates are in requests a second for each replica. A file that is there already is gone on
with: what it has is not simulated again. The router `dynamo` is NVIDIA's (`dynamo_router.py`), and
simulated only where it is named. `--cost` measures a decision instead.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from dynamo_router import DynamoSelection
from headway.config import PolicyName
from headway.perf.records.summary import summarize
from headway.perf.sim.roofline import known_device, known_model, roofline_profile
from headway.perf.sim.simulate import Setup, simulate
from headway.perf.workload.lengths import parse_lengths
from headway.perf.workload.synthetic import at_rate, gamma, synthesize
from headway.perf.workload.traces import read_trace
from headway.perf.workload.workload import Workload
from headway.routing import (
    ROUTERS,
    EngineView,
    PromptPrefix,
    RequestShape,
    RouterName,
    make_router,
    router_name,
    step_costs,
)
from headway.steptime.model import Residuals
from headway.steptime.profiles import Profile
from headway.types.engine import PolicyConfig
from headway.types.objectives import Pace, parse_objectives
from served import about_this_machine

SPREAD = (0.85, 0.93, 0.97, 1.0, 1.03, 1.07, 1.15)
"""Quantiles of how many times as long as predicted a step takes; 1 on average."""
OPPONENT = "dynamo"
KEPT = (
    "attainment",
    "shed_share",
    "request_goodput",
    "mean_ttft_ms",
    "p50_ttft_ms",
    "p90_ttft_ms",
    "p99_ttft_ms",
    "p99_tpot_ms",
    "output_throughput",
)
Row = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Traffic:
    """Requests of one kind; `make` gives so many for so many replicas."""

    name: str
    make: Callable[[int, int], Workload]
    objectives: str
    rates: tuple[float, ...]
    """Requests a second for each replica: with room, busy, and more than is served."""
    requests: int
    """For each of four replicas, and half as many for each of four times as many."""


@dataclass(frozen=True, kw_only=True)
class Load:
    """One kind of requests at one rate, for one fleet."""

    traffic: Traffic
    rate: float
    replicas: int

    @property
    def name(self) -> str:
        return f"{self.traffic.name} x {self.rate:g}"

    def workload(self) -> Workload:
        halvings = (self.replicas // 4).bit_length() // 2
        count = self.replicas * (self.traffic.requests >> halvings)
        made = self.traffic.make(count, self.replicas)
        own = count / made.requests[-1].at
        return at_rate(made, self.rate * self.replicas / own)


def _traced(path: Path, count: int, _: int) -> Workload:
    return read_trace(path, num_requests=count)


def _system_prompts(count: int, replicas: int) -> Workload:
    """Far more system prompts than one engine's cache holds, and about as many as all do."""
    return synthesize(
        num_requests=count,
        prompt=parse_lengths("lognormal:300:0.8:4000"),
        output=parse_lengths("exponential:150:600"),
        arrivals=gamma(1.0),
        prefix_tokens=4096,
        prefixes=80 * replicas,
        seed=1,
    )


def traffic_of(folder: Path | None) -> list[Traffic]:
    """The kinds of traffic; traces only where there is a folder that has them."""
    own = Traffic(
        name="system prompts",
        make=_system_prompts,
        objectives="ttft=1s,tpot=50ms",
        rates=(8.0, 12.0, 18.0),
        requests=800,
    )
    if folder is None:
        return [own]
    mooncake = Traffic(
        name="mooncake",
        make=partial(_traced, folder / "mooncake_conversation_trace.jsonl"),
        objectives="ttft=2s,tpot=50ms",
        rates=(0.5, 0.8, 1.1),
        requests=225,
    )
    azure = Traffic(
        name="azure conversation",
        make=partial(_traced, folder / "AzureLLMInferenceTrace_conv.csv"),
        objectives="ttft=1s,tpot=50ms",
        rates=(14.0, 19.0, 24.0),
        requests=800,
    )
    return [mooncake, azure, own]


def profile() -> Profile:
    made = roofline_profile(known_device("h100"), known_model("llama-3.1-8b"))
    return replace(made, residuals=Residuals(decode=SPREAD, mixed=SPREAD, prefill=SPREAD))


def outcome(load: Load, router: str, policy: PolicyName) -> Row:
    """The figures of one simulation."""
    make = DynamoSelection if router == OPPONENT else partial(make_router, router_name(router))
    machine = profile()
    scheduler = replace(machine.scheduler, policy=PolicyConfig(name=policy))
    setup = Setup(profile=machine, scheduler=scheduler, replicas=load.replicas, make_router=make)
    objectives = parse_objectives(load.traffic.objectives)
    began = time.process_time()
    found = simulate(load.workload(), setup, seed=1, objectives=objectives)
    summary = summarize(
        found.records, duration=found.duration, objectives=objectives, gaps=found.gaps
    )
    prompts = sum(record.prompt_tokens for record in found.records)
    cached = sum(record.cached_tokens for record in found.records)
    return {
        **{name: round(summary[name], 4) for name in KEPT if name in summary},
        "cached_share": round(cached / prompts, 4),
        "cpu_seconds": round(time.process_time() - began, 1),
    }


def keys(arguments: argparse.Namespace) -> Iterator[tuple[Row, Load]]:
    """What identifies each simulation that is asked for, and its load."""
    for replicas in arguments.replicas:
        for traffic in traffic_of(arguments.traces):
            for load in [Load(traffic=traffic, rate=r, replicas=replicas) for r in traffic.rates]:
                if arguments.loads and load.name not in arguments.loads:
                    continue
                for policy in arguments.policies:
                    for router in arguments.routers:
                        key = {"load": load.name, "replicas": replicas, "policy": policy}
                        yield key | {"router": router}, load


def simulate_all(arguments: argparse.Namespace) -> list[Row]:
    """A row for each simulation, those of an earlier call among them; written after each."""
    path = arguments.out
    rows: list[Row] = json.loads(path.read_text())["rows"] if path and path.exists() else []
    known = [{name: row[name] for name in ("load", "replicas", "policy", "router")} for row in rows]
    for key, load in keys(arguments):
        if key in known:
            continue
        row = key | outcome(load, key["router"], key["policy"])
        rows.append(row)
        print(f"{key}: {row['attainment']:.1%} in {row['cpu_seconds']} s", file=sys.stderr)
        if path:
            record = about_this_machine() | {"program": "benchmarks/routers.py", "rows": rows}
            path.write_text(json.dumps(record, indent=1) + "\n")
    return rows


def table(rows: Sequence[Row]) -> str:
    """Markdown: attained share and good requests a second, a column for each router."""
    routers = [name for name in (*ROUTERS, OPPONENT) if any(row["router"] == name for row in rows)]
    lines = ["| load | replicas | policy | " + " | ".join(routers) + " |"]
    lines.append("|---" * (3 + len(routers)) + "|")
    cells: dict[tuple[str, int, str], dict[str, str]] = {}
    for row in rows:
        place = cells.setdefault((row["load"], row["replicas"], row["policy"]), {})
        place[row["router"]] = f"{100 * row['attainment']:.1f} ({row['request_goodput']:.1f})"
    for (load, replicas, policy), found in cells.items():
        own = " | ".join(found.get(name, "") for name in routers)
        lines.append(f"| {load} | {replicas} | {policy} | {own} |")
    return "\n".join(lines)


def decision_microseconds(name: RouterName, engines: int = 64, repeats: int = 50) -> float:
    """CPU time of one decision for a long prompt that many engines know parts of; of many repeats
    the least."""
    machine = profile()
    costs = step_costs(machine.step_times())
    views: list[EngineView] = []
    for number in range(engines):
        view = EngineView.of(machine.scheduler, costs)
        for each in range(32):
            view.sent(_request(f"{each}", known=(7 * number + each) % 24))
        views.append(view)
    router, least, count = make_router(name), float("inf"), 20
    for repeat in range(repeats):
        asked = _request(f"asked {repeat}", known=24)
        began = time.process_time()
        for _ in range(count):
            router.choose(asked, views)
        least = min(least, (time.process_time() - began) / count)
    return 1e6 * least


def _request(name: str, *, known: int) -> RequestShape:
    prefixes = [PromptPrefix(b"%d" % place, 512 * (place + 1)) for place in range(known)]
    return RequestShape(
        id=name,
        prompt_tokens=512 * 24 + 300,
        max_tokens=300,
        prefixes=prefixes,
        pace=Pace(ttft=2.0, tpot=0.05),
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--traces", type=Path, metavar="DIR", help="a folder with public traces")
    parser.add_argument("--replicas", type=int, nargs="+", default=[4], metavar="N")
    parser.add_argument("--loads", nargs="+", metavar="LOAD", help='such as "mooncake x 0.8"')
    parser.add_argument("--routers", nargs="+", choices=(*ROUTERS, OPPONENT), default=ROUTERS)
    parser.add_argument("--policies", nargs="+", default=["paced", "continuous"])
    parser.add_argument("--cost", action="store_true", help="what a decision costs, and no more")
    parser.add_argument("--out", type=Path, metavar="FILE", help="of all figures, as JSON")
    arguments = parser.parse_args()
    if arguments.cost:
        for name in map(router_name, arguments.routers):
            print(f"{name}: {decision_microseconds(name):.0f} us for 64 engines")
        return
    print(table(simulate_all(arguments)))


if __name__ == "__main__":
    main()
