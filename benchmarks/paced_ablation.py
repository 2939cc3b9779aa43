"""What each part of `paced` is worth: it is turned off, one part at a time, on loads that need it.

    python benchmarks/paced_ablation.py --traces DIR --out ablation.json

Simulated, the step times scattered: Llama-3.1-8B on one H100 under Azure's traces, and this machine
under loads that shift. What `--out` already has is not simulated again. A difference counts where
it is larger than what other draws of the scatter make of the shipped policy.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from statistics import NormalDist, fmean
from typing import Any

from headway.perf.records.summary import summarize
from headway.perf.sim.roofline import known_device, known_model, roofline_profile
from headway.perf.sim.simulate import simulate
from headway.perf.workload.lengths import parse_lengths
from headway.perf.workload.service import with_classes, with_objectives
from headway.perf.workload.synthetic import gamma, synthesize
from headway.steptime.model import POINTS, Residuals
from headway.steptime.profiles import Profile
from headway.types.objectives import parse_objectives
from paced_loads import Load, Machine, held_to, kinds, traced
from paced_sim import PACED, UNPINNED, Figures, System, capacity, fixed_systems, kept
from paced_variants import SHIPPED, Variant, variants
from served import about_this_machine

SCATTER = 0.06
"""Standard deviation of the logarithm of a step's time over the model's."""
STALL = 8.0
"""Times as long as others some steps take on a machine that stalls: about one in 130."""
H100_OBJECTIVES = "ttft_p99=1s,tpot_p99=30ms"
H100_TIGHT = "ttft_p99=500ms,tpot_p99=20ms"
DECODING_OBJECTIVES = "ttft_p99=1s,tpot_p99=12ms"
MACHINE_OBJECTIVES = "ttft_p99=1s,tpot_p99=50ms"
SHARES = {"interactive": 0.3, "standard": 0.5, "batch": 0.2}
ON_H100 = (("azure conversation", 3.0), ("azure conversation", 4.0), ("azure code", 2.0))
LONG_ANSWERS = {"long answers": 20.0, "fewer long answers": 12.0}
"""Requests a second."""
SHIFTING = ("step in rate", "shift in lengths", "tight and loose")
BURST = 192
"""Requests at once by which this machine's capacity is found."""
LEAST_NOISE = {"attainment": 0.003, "on_time_output_throughput": 0.005}
"""Differences up to this are nothing, of the second as a share, even where draws agree."""
COLUMNS = (
    ("attained %", "attainment", 100.0),
    ("on time tok/s", "on_time_output_throughput", 1.0),
    ("TTFT p99 s", "p99_ttft_ms", 1e-3),
    ("TPOT p99 ms", "p99_tpot_ms", 1.0),
    ("gap p99 ms", "p99_itl_ms", 1.0),
    ("largest gap ms", "largest_gap_ms", 1.0),
)
Row = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Case:
    """A load and the machine that serves it."""

    profile: Profile
    make: Callable[[], Load]


def scattered(profile: Profile, *, stalls: bool = False) -> Profile:
    """The machine, its steps a few per cent longer or shorter at random, as measured ones are, and
    if it `stalls` a few of them far longer."""
    normal = NormalDist(sigma=SCATTER)
    points = [math.exp(normal.inv_cdf((place + 0.5) / POINTS)) for place in range(POINTS)]
    mean = fmean(points)
    if stalls:
        points[-1] *= 2 * STALL  # draws are even along the line to the one before
    ratios = tuple(point / mean for point in points)
    return replace(profile, residuals=Residuals(decode=ratios, mixed=ratios, prefill=ratios))


def cases(traces: Path, requests: int) -> dict[str, Case]:
    """All loads by name, made when they are asked for."""
    h100 = scattered(roofline_profile(known_device("h100"), known_model("llama-3.1-8b")))
    objectives = parse_objectives(H100_OBJECTIVES)
    found = {
        f"{trace} x {rate:g}": Case(
            profile=h100, make=partial(traced, traces, trace, rate, requests, objectives)
        )
        for trace, rate in ON_H100
    }
    found["conversation x 4, classes"] = Case(
        profile=h100, make=partial(_with_classes, traces, requests)
    )
    for name, rate in LONG_ANSWERS.items():
        found[name] = Case(profile=h100, make=partial(_long_answers, name, rate, requests))
    cores = roofline_profile(known_device("zen4-2core"), known_model("smollm2-135m"), dtype="int8")
    machine = scattered(cores)
    fixed = fixed_systems([(64, 512)])
    loads = Machine(
        capacity=lambda kind: capacity(machine, fixed[:1], kinds(None)[kind](BURST, 0)),
        objectives=parse_objectives(MACHINE_OBJECTIVES),
        requests=requests,
        traces=None,
    ).loads()
    found |= {name: Case(profile=machine, make=loads[name]) for name in SHIFTING}
    found["step in rate, stalls"] = Case(
        profile=scattered(cores, stalls=True), make=loads["step in rate"]
    )
    return found


def _long_answers(name: str, rate: float, requests: int) -> Load:
    """Short prompts, answers of 800 tokens: how many decode is what the objectives bound."""
    workload = synthesize(
        num_requests=requests,
        prompt=parse_lengths("lognormal:150:0.5:600"),
        output=parse_lengths("exponential:800:3000"),
        arrivals=gamma(rate),
        seed=1,
    )
    objectives = parse_objectives(DECODING_OBJECTIVES)
    return Load(name=name, family="long", workload=held_to(workload, objectives))


def _with_classes(traces: Path, requests: int) -> Load:
    """Requests of three classes, the interactive ones with tighter objectives, batch with none."""
    standard = parse_objectives(H100_OBJECTIVES)
    load = traced(traces, "azure conversation", 4.0, requests, ())
    mixed = with_classes(load.workload, dict(SHARES), seed=1)  # type: ignore[arg-type]
    wanted = {"interactive": parse_objectives(H100_TIGHT), "standard": standard, "batch": ()}
    return replace(load, workload=with_objectives(mixed, wanted))  # type: ignore[arg-type]


def run(load: Load, profile: Profile, variant: Variant, seed: int) -> Figures:
    cap, tokens = UNPINNED
    system = System(
        name=variant.name,
        policy=PACED,
        max_num_seqs=cap,
        max_num_batched_tokens=variant.max_num_batched_tokens or tokens,
        options=variant.options,
    )
    with variant.on(profile):
        outcome = simulate(load.workload, system.on(profile), seed=seed)
    summary = summarize(outcome.records, duration=outcome.duration, gaps=outcome.gaps)
    return kept(summary, outcome.records)


def worth(rows: Sequence[Row], figure: str) -> dict[tuple[str, str], dict[str, float | None]]:
    """By variant and load: what the figure is without the part, less what it is as shipped.

    None where that is no more than the shipped policy's own range over draws, or `LEAST_NOISE`.
    """
    shipped: dict[str, list[float]] = {}
    for row in rows:
        if row["variant"] == SHIPPED:
            shipped.setdefault(row["load"], []).append(row[figure])
    found: dict[tuple[str, str], dict[str, float | None]] = {}
    for row in rows:
        key, load = (row["part"], row["variant"]), row["load"]
        if row["variant"] == SHIPPED or load not in shipped or load in found.get(key, {}):
            continue
        values = [
            each[figure]
            for each in rows
            if (each["part"], each["variant"]) == key and each["load"] == load
        ]
        own = shipped[load]
        least = LEAST_NOISE.get(figure, 0.0) * (1.0 if figure == "attainment" else fmean(own))
        difference = fmean(values) - fmean(own)
        counts = abs(difference) > max(max(own) - min(own), least)
        found.setdefault(key, {})[load] = difference if counts else None
    return found


def shown(rows: Sequence[Row]) -> str:
    """The shipped policy's figures, then a row for each variant: points of attainment by load."""
    loads = list(dict.fromkeys(row["load"] for row in rows))
    lines = [f"{SHIPPED:<70}" + "".join(f"{head:>16}" for head, _, _ in COLUMNS)]
    for load in loads:
        own = [row for row in rows if row["load"] == load and row["variant"] == SHIPPED]
        cells = [fmean(row[name] for row in own) * scale for _, name, scale in COLUMNS if own]
        lines.append(f"{load:<70}" + "".join(f"{cell:>16.2f}" for cell in cells))
    for figure, scale in (("attainment", 100.0), ("on_time_output_throughput", 1.0)):
        lines += ["", f"{figure}: {'':<58}" + "".join(f"{load[-14:]:>16}" for load in loads)]
        for (part, name), by_load in worth(rows, figure).items():
            cells_of = [_cell(by_load, load, scale) for load in loads]
            lines.append(f"{part + ': ' + name:<70}" + "".join(f"{cell:>16}" for cell in cells_of))
    return "\n".join(lines)


def _cell(by_load: Mapping[str, float | None], load: str, scale: float) -> str:
    if load not in by_load:
        return ""
    difference = by_load[load]
    return "nothing" if difference is None else f"{difference * scale:+.1f}"


def rows_in(path: Path | None) -> list[Row]:
    if path is None or not path.exists():
        return []
    rows: list[Row] = json.loads(path.read_text())["rows"]
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description="what each part of paced is worth")
    parser.add_argument("--traces", type=Path, required=True, help="folder of the public traces")
    parser.add_argument("--requests", type=int, default=2000, help="of each load")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], help="of the scatter")
    parser.add_argument("--loads", nargs="+", help="only these")
    parser.add_argument("--variants", nargs="+", help="only these: a part of their names")
    parser.add_argument("--also", type=Path, nargs="+", default=[], help="show these results too")
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    rows = rows_in(given.out)
    about = about_this_machine() | {"program": "benchmarks/paced_ablation.py"}
    about |= {"requests": given.requests, "scatter": SCATTER}
    done = {(row["load"], row["part"], row["variant"], row["seed"]) for row in rows}
    for name, case in cases(given.traces, given.requests).items():
        if given.loads and name not in given.loads:
            continue
        load = case.make()
        for variant in variants():
            label = f"{variant.part}: {variant.name}"
            if given.variants and not any(each in label for each in given.variants):
                continue
            for seed in given.seeds:
                if (name, variant.part, variant.name, seed) in done:
                    continue
                figures = run(load, case.profile, variant, seed)
                print(f"{name} | {label} | {seed}: {figures['attainment']:.1%}", file=sys.stderr)
                which = {"load": name, "part": variant.part, "variant": variant.name, "seed": seed}
                rows.append(which | figures)
                if given.out is not None:
                    record = about | {"rows": rows}
                    given.out.write_text(json.dumps(record, indent=1) + "\n")
    print(shown(rows + [row for path in given.also for row in rows_in(path)]))


if __name__ == "__main__":
    main()
