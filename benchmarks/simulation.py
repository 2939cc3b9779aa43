"""Does the simulator foretell what this machine does? Fits on one workload, predicts others.

Each round fits a profile to probe steps of a real engine (as `headway profile` does). Then
workloads that the fit has not seen run twice: on the engine, which records its steps, and in the
simulator, which is given nothing but the workload. Compared are the duration of each step,
throughput and latencies, the order of the policies, and whether a replay of each recording makes
identical plans. Beside the errors of steps stand those of a profile fitted to the very same steps:
what no model of this shape could do better, because the machine is not the same from one moment to
the next.

    python benchmarks/simulation.py --trace AzureLLMInferenceTrace_conv.csv --out results.json
"""

from __future__ import annotations

import argparse
import asyncio
import json
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import combinations
from pathlib import Path
from statistics import median
from typing import TypedDict, get_args

from headway.bench.drive import drive
from headway.bench.engine_target import EngineTarget
from headway.bench.probe import probe
from headway.config import EngineConfig, PolicyName
from headway.latency.profile import Profile
from headway.llm import AsyncLLM
from headway.measurement import summarize
from headway.recording.fitting import errors_on, fit_recording
from headway.recording.lines import Recording
from headway.recording.reader import read_recordings
from headway.sim.replay import replay
from headway.sim.simulate import Setup, simulate
from headway.workload.arrivals import at_once, poisson
from headway.workload.job import Workload
from headway.workload.laws import parse_law
from headway.workload.synthetic import synthesize
from headway.workload.traces import read_trace
from served import about_this_machine

GATES = {
    "output_throughput": 0.05,
    "p50_ttft_ms": 0.10,
    "p99_ttft_ms": 0.15,
    "p50_tpot_ms": 0.10,
    "p99_tpot_ms": 0.15,
    "p50_e2el_ms": 0.10,
    "p99_e2el_ms": 0.15,
}
"""Figures, and how far from the measured one the predicted one may be."""
RANKED = ("output_throughput", "p50_e2el_ms")
STEPS = {"mean": 0.08, "p95": 0.20}


@dataclass(frozen=True, kw_only=True)
class Real:
    """A workload on the real engine."""

    summary: Mapping[str, float]
    recording: Recording


def workloads(trace: Path | None, scale: float) -> dict[str, Workload]:
    """What the fit does not see. Sizes are for two cores; `scale` is of the rates."""
    chosen = {
        "burst": synthesize(
            requests=128,
            prompt=parse_law("128"),
            output=parse_law("exponential:96:384"),
            arrivals=at_once,
            seed=1,
        ),
        "poisson": synthesize(
            requests=round(300 * scale),
            prompt=parse_law("lognormal:96:0.7:512"),
            output=parse_law("exponential:96:384"),
            arrivals=poisson(5.5 * scale),
            seed=2,
        ),
    }
    if trace is not None:
        chosen["azure conversation, lengths / 8"] = read_trace(
            trace, requests=600, length_scale=1 / 8, rate_scale=2.0 * scale
        )
    return chosen


async def on_engine(config: EngineConfig, workload: Workload, keep: Path | None) -> Real:
    """Run a workload on an engine of its own, which is warm when the clock starts."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(keep or folder) / f"{workload.name} {config.policy}.jsonl"
        path.unlink(missing_ok=True)
        llm = await AsyncLLM.start(replace(config, record=str(path)))
        try:
            with EngineTarget(llm) as target:
                warm = replace(workload, jobs=workload.jobs[:4])
                await drive(target, warm, label="warm")
                driven = await drive(target, workload)
        finally:
            await llm.close()
        (recording,) = read_recordings(path)
    return Real(summary=summarize(driven.records, duration=driven.duration), recording=recording)


def in_simulator(profile: Profile, recording: Recording, workload: Workload) -> dict[str, float]:
    engine = recording.engine
    setup = Setup(
        profile=profile,
        limits=engine.limits,
        num_blocks=engine.num_blocks,
        block_size=engine.block_size,
        policy=next(name for name in get_args(PolicyName) if name == engine.policy),
        dynamic_wait=engine.dynamic_wait,
        prefix_caching=engine.prefix_caching,
    )
    found = simulate(workload, setup)
    return summarize(found.records, duration=found.duration, gaps=found.gaps)


class Row(TypedDict):
    """What became of one workload in one round."""

    steps: int
    step_errors: dict[str, float]
    own_fit: dict[str, float]
    figures: dict[str, dict[str, float]]
    replay_identical: bool


def compare(profile: Profile, real: Real, workload: Workload) -> Row:
    """One workload's row: errors of steps, measured beside predicted, and the replay."""
    predicted = in_simulator(profile, real.recording, workload)
    errors = errors_on(profile, real.recording)
    floor = errors_on(fit_recording(real.recording), real.recording)
    return Row(
        steps=len(real.recording.steps),
        step_errors={"mean": errors.mean, "p95": errors.p95},
        own_fit={"mean": floor.mean, "p95": floor.p95},
        figures={
            name: {
                "measured": real.summary[name],
                "predicted": predicted[name],
                "error": predicted[name] / real.summary[name] - 1,
            }
            for name in GATES
            if real.summary.get(name)
        },
        replay_identical=replay(real.recording).identical,
    )


def typical_errors(rows: Sequence[Row]) -> dict[str, dict[str, object]]:
    """By figure, the error of the round in the middle, and whether it is within its gate."""
    steps = {
        f"step error {name}": ([row["step_errors"][name] for row in rows], gate)
        for name, gate in STEPS.items()
    }
    figures = {
        name: ([row["figures"][name]["error"] for row in rows], gate)
        for name, gate in GATES.items()
    }
    return {
        name: {"median": (middle := median(errors)), "gate": gate, "within": abs(middle) <= gate}
        for name, (errors, gate) in (steps | figures).items()
    }


def contests() -> dict[str, Workload]:
    """What the policies are ranked on, with 16 seats: a burst, and arrivals."""
    lengths = parse_law("exponential:64:256")
    made = partial(synthesize, requests=64, prompt=parse_law("64"), output=lengths)
    return {
        "burst": made(arrivals=at_once, seed=3),
        "arrivals": made(arrivals=poisson(5.0), seed=4),
    }


Figures = dict[str, dict[str, list[float]]]
"""Of one policy: figure, measured or predicted, one value a round."""


async def contest(
    config: EngineConfig, profile: Profile, keep: Path | None, found: dict[str, dict[str, Figures]]
) -> None:
    """Every policy on every contest, measured and predicted; added to what was found."""
    narrow = replace(config, max_num_seqs=16)
    for name, workload in contests().items():
        for policy in get_args(PolicyName):
            real = await on_engine(replace(narrow, policy=policy), workload, keep)
            predicted = in_simulator(profile, real.recording, workload)
            row = found.setdefault(name, {}).setdefault(policy, {})
            for figure in RANKED:
                pair = row.setdefault(figure, {"measured": [], "predicted": []})
                pair["measured"].append(real.summary[figure])
                pair["predicted"].append(predicted[figure])
            print(name, policy, json.dumps(row), flush=True)


def misplaced(rows: Mapping[str, Figures], figure: str) -> list[str]:
    """Pairs of policies whose medians are 5 % apart or more, and predicted the other way round."""

    def ratio(one: str, other: str, kind: str) -> float:
        return median(rows[one][figure][kind]) / median(rows[other][figure][kind])

    return [
        f"{one}, {other}"
        for one, other in combinations(rows, 2)
        if not 0.95 < (measured := ratio(one, other, "measured")) < 1.05
        and (measured > 1) != (ratio(one, other, "predicted") > 1)
    ]


async def everything(given: argparse.Namespace) -> dict[str, object]:
    config = EngineConfig(**({"model": given.model} if given.model else {}))
    found: dict[str, list[Row]] = {}
    policies: dict[str, dict[str, Figures]] = {}
    fits = []
    for _ in range(given.rounds):
        profile = await probe(config)
        fits.append({name: getattr(profile.fit, name) for name in ("steps", "mean", "p95")})
        print(f"fit: {profile.fit}", flush=True)
        if given.keep:
            (given.keep / "profile.json").write_text(profile.to_json())
        for name, workload in workloads(given.trace, given.scale).items():
            row = compare(profile, await on_engine(config, workload, given.keep), workload)
            found.setdefault(name, []).append(row)
            print(name, json.dumps(row, indent=1), flush=True)
        await contest(config, profile, given.keep, policies)
    typical = {name: typical_errors(rows) for name, rows in found.items()}
    print(json.dumps(typical, indent=1))
    wrong = {
        name: {figure: misplaced(rows, figure) for figure in RANKED}
        for name, rows in policies.items()
    }
    print(f"in the wrong order: {wrong}")
    return {
        "gates": {"steps": STEPS, **GATES},
        "fits": fits,
        "held out, median of rounds": typical,
        "held out": found,
        "policies": policies,
        "in the wrong order": wrong,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default=None)
    parser.add_argument("--trace", type=Path, help="the Azure conversation trace of 2023")
    parser.add_argument("--scale", type=float, default=1.0, help="of the rates of arrival")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--keep", type=Path, help="folder for the profile and the recordings")
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    found = asyncio.run(everything(given))
    if given.out:
        given.out.write_text(json.dumps(about_this_machine() | found, indent=1) + "\n")


if __name__ == "__main__":
    main()
