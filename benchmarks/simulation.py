"""Does the simulator predict what this machine does? Fits on one workload, predicts others.

Each round probes a real engine (as `headway profile` does), and then runs workloads that the fit
does not see: synthetic ones, a trace, and all policies on two more. One profile is fitted to the
probes of all rounds, and the simulator is given nothing but that and the workloads. Compared are
the middle of the rounds and the middle of as many simulated ones, because neither is the same
twice: the duration of each step, throughput and latencies, the order of the policies, and whether a
replay of each recording makes identical plans. Beside the errors of steps stand those of a profile
fitted to the very same steps: what no model of this shape could do better, because the machine is
not the same from one moment to the next.

    python benchmarks/simulation.py --trace AzureLLMInferenceTrace_conv.csv --out results.json

What `--keep FOLDER` leaves is judged again by `--evaluate FOLDER`, with the same `--trace` and
`--scale`: a change of the fit or of the simulator needs no machine to be judged.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import tempfile
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import combinations
from pathlib import Path
from statistics import median
from typing import get_args

from headway.config import EngineConfig, PolicyName
from headway.llm import AsyncLLM
from headway.perf.bench.engine_client import EngineLoadClient
from headway.perf.bench.probe import SECONDS, run_probes
from headway.perf.bench.run_load import run_load
from headway.perf.records.summary import summarize
from headway.perf.sim.replay import replay
from headway.perf.sim.simulate import Setup, simulate
from headway.perf.workload.lengths import parse_lengths
from headway.perf.workload.synthetic import at_once, gamma, synthesize
from headway.perf.workload.traces import read_trace
from headway.perf.workload.workload import Workload
from headway.recording.fitting import errors_on, fit_recordings
from headway.recording.format import Recording, read_recordings
from headway.steptime.profiles import Profile
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
STEP_GATES = {"mean": 0.08, "p95": 0.20}
RANKED = ("output_throughput", "p50_e2el_ms")
NARROW = 16
"""Slots for which the policies contend."""
WARM_UP = 4
"""Requests before the clock starts."""
PROBES = "probes.jsonl"

Summary = Mapping[str, float]


@dataclass(frozen=True, kw_only=True)
class Real:
    """A workload on the real engine."""

    summary: Summary
    recording: Recording


@dataclass(frozen=True, kw_only=True)
class Round:
    """Everything once. Of contests: by workload and policy."""

    probes: Recording
    held_out: Mapping[str, Real]
    contests: Mapping[str, Mapping[PolicyName, Real]]


def workloads(trace: Path | None, scale: float) -> dict[str, Workload]:
    """What the fit does not see. Sizes are for two cores; `scale` is of the rates."""
    chosen = {
        "burst": synthesize(
            num_requests=128,
            prompt=parse_lengths("128"),
            output=parse_lengths("exponential:96:384"),
            arrivals=at_once,
            seed=1,
        ),
        "poisson": synthesize(
            num_requests=round(300 * scale),
            prompt=parse_lengths("lognormal:96:0.7:512"),
            output=parse_lengths("exponential:96:384"),
            arrivals=gamma(5.5 * scale),
            seed=2,
        ),
    }
    if trace is not None:
        chosen["azure conversation, lengths / 8"] = read_trace(
            trace, num_requests=600, length_scale=1 / 8, rate_scale=2.0 * scale
        )
    return chosen


def contests() -> dict[str, Workload]:
    """What the policies are ranked on, with 16 slots: a burst, and arrivals."""
    lengths = parse_lengths("exponential:64:256")
    made = partial(synthesize, num_requests=64, prompt=parse_lengths("64"), output=lengths)
    return {
        "burst": made(arrivals=at_once, seed=3),
        "arrivals": made(arrivals=gamma(5.0), seed=4),
    }


async def recorded(
    config: EngineConfig, path: Path, work: Callable[[AsyncLLM], Awaitable[None]]
) -> Recording:
    """What an engine of its own did meanwhile."""
    path.unlink(missing_ok=True)
    llm = await AsyncLLM.start(replace(config, record=str(path)))
    try:
        await work(llm)
    finally:
        await llm.close()
    (recording,) = read_recordings(path)
    return recording


async def on_engine(config: EngineConfig, workload: Workload, path: Path) -> Real:
    """Run a workload on an engine that is warm when the clock starts."""
    summary: dict[str, float] = {}

    async def work(llm: AsyncLLM) -> None:
        with EngineLoadClient(llm) as client:
            warm = replace(workload, requests=workload.requests[:WARM_UP])
            await run_load(client, warm, label="warm")
            result = await run_load(client, workload)
        summary.update(summarize(result.records, duration=result.duration))

    recording = await recorded(config, path, work)
    _summary_file(path).write_text(json.dumps(summary))
    print(f"{path.stem}: {summary['output_throughput']:.1f} output tokens/s", flush=True)
    return Real(summary=summary, recording=recording)


def _summary_file(path: Path) -> Path:
    return path.with_suffix(".summary.json")


def _held_out_file(folder: Path, number: int, policy: PolicyName) -> Path:
    return folder / f"{number} {policy}.jsonl"


def _contest_file(folder: Path, name: str, policy: PolicyName) -> Path:
    return folder / f"{name} {policy}.jsonl"


def kept(path: Path, workload: Workload) -> Real:
    """What `on_engine` left; ends the program where it is of another workload."""
    (recording,) = read_recordings(path)
    asked = [request.prompt_tokens for request in workload.requests]
    found = sorted(request.prompt_tokens for request in recording.requests)
    if found != sorted(asked + asked[:WARM_UP]):
        sys.exit(f"{path} is of another workload: give the same --trace and --scale as then")
    return Real(summary=json.loads(_summary_file(path).read_text()), recording=recording)


def kept_round(folder: Path, held_out: Mapping[str, Workload]) -> Round:
    """What `measure_round` left."""
    (probes,) = read_recordings(folder / PROBES)
    served = EngineConfig().policy
    return Round(
        probes=probes,
        held_out={
            name: kept(_held_out_file(folder, number, served), workload)
            for number, (name, workload) in enumerate(held_out.items())
        },
        contests={
            name: {
                policy: kept(_contest_file(folder, name, policy), workload)
                for policy in get_args(PolicyName)
            }
            for name, workload in contests().items()
        },
    )


async def measure_round(
    config: EngineConfig, held_out: Mapping[str, Workload], folder: Path
) -> Round:
    async def probing(llm: AsyncLLM) -> None:
        await run_probes(llm, SECONDS, lambda _: None)

    probes = await recorded(config, folder / PROBES, probing)
    found = {
        name: await on_engine(config, workload, _held_out_file(folder, number, config.policy))
        for number, (name, workload) in enumerate(held_out.items())
    }
    narrow = replace(config, max_num_seqs=NARROW)
    contended = {
        name: {
            policy: await on_engine(
                replace(narrow, policy=policy), workload, _contest_file(folder, name, policy)
            )
            for policy in get_args(PolicyName)
        }
        for name, workload in contests().items()
    }
    return Round(probes=probes, held_out=found, contests=contended)


def in_simulator(profile: Profile, setting: Recording, workload: Workload, seed: int) -> Summary:
    """The same settings as the recorded engine's; of the recording nothing else is used."""
    setup = Setup(profile=profile, scheduler=setting.engine.scheduler)
    found = simulate(workload, setup, seed=seed)
    return summarize(found.records, duration=found.duration, gaps=found.gaps)


def compare(profile: Profile, reals: Sequence[Real], workload: Workload) -> dict[str, object]:
    """One workload: the middle of the rounds beside the middle of as many simulations."""
    simulated = [
        in_simulator(profile, real.recording, workload, seed) for seed, real in enumerate(reals)
    ]
    errors = [errors_on(profile, real.recording) for real in reals]
    floors = [errors_on(fit_recordings([real.recording]), real.recording) for real in reals]
    rows: dict[str, object] = {}
    for name, gate in STEP_GATES.items():
        each = [getattr(error.all, name) for error in errors]
        own = [getattr(floor.all, name) for floor in floors]
        rows[f"step error {name}"] = {
            "error": median(each),
            "within": median(each) <= gate,
            "each": each,
            "of a fit to the same steps": own,
        }
    for name, gate in GATES.items():
        measured = [real.summary[name] for real in reals]
        predicted = [summary[name] for summary in simulated]
        error = median(predicted) / median(measured) - 1
        rows[name] = {
            "error": error,
            "within": abs(error) <= gate,
            "measured": measured,
            "predicted": predicted,
        }
    rows["steps"] = [len(real.recording.steps) for real in reals]
    rows["replays identical"] = all(replay(real.recording).identical for real in reals)
    return rows


Figures = Mapping[str, Mapping[str, float]]
"""Of one policy: by figure, what was measured and what was predicted."""


def contend(
    profile: Profile, reals: Mapping[PolicyName, Sequence[Real]], workload: Workload
) -> dict[str, Figures]:
    rows: dict[str, Figures] = {}
    for policy, runs in reals.items():
        simulated = [
            in_simulator(profile, real.recording, workload, seed) for seed, real in enumerate(runs)
        ]
        rows[policy] = {
            figure: {
                "measured": median(real.summary[figure] for real in runs),
                "predicted": median(summary[figure] for summary in simulated),
            }
            for figure in RANKED
        }
    return rows


def misplaced(rows: Mapping[str, Figures], figure: str) -> list[str]:
    """Pairs of policies that are 5 % apart or more, and predicted the other way round."""

    def ratio(one: str, other: str, kind: str) -> float:
        return rows[one][figure][kind] / rows[other][figure][kind]

    return [
        f"{one}, {other}"
        for one, other in combinations(rows, 2)
        if not 0.95 < (measured := ratio(one, other, "measured")) < 1.05
        and (measured > 1) != (ratio(one, other, "predicted") > 1)
    ]


def evaluate(rounds: Sequence[Round], held_out: Mapping[str, Workload]) -> dict[str, object]:
    profile = fit_recordings([each.probes for each in rounds])
    policies = {
        name: contend(
            profile,
            {
                policy: [each.contests[name][policy] for each in rounds]
                for policy in get_args(PolicyName)
            },
            workload,
        )
        for name, workload in contests().items()
    }
    return {
        "gates": {"steps": STEP_GATES, **GATES},
        "fit": {name: getattr(profile.fit, name) for name in ("steps", "mean", "p95", "stalls")},
        "held out": {
            name: compare(profile, [each.held_out[name] for each in rounds], workload)
            for name, workload in held_out.items()
        },
        "policies": policies,
        "in the wrong order": {
            name: {figure: misplaced(rows, figure) for figure in RANKED}
            for name, rows in policies.items()
        },
    }


async def measure(
    given: argparse.Namespace, held_out: Mapping[str, Workload], folder: Path
) -> list[Round]:
    config = EngineConfig(**({"model": given.model} if given.model else {}))
    rounds = []
    for number in range(1, given.rounds + 1):
        print(f"round {number}", flush=True)
        inside = folder / f"round {number}"
        inside.mkdir(parents=True, exist_ok=True)
        rounds.append(await measure_round(config, held_out, inside))
    return rounds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default=None)
    parser.add_argument("--trace", type=Path, help="the Azure conversation trace of 2023")
    parser.add_argument("--scale", type=float, default=1.0, help="of the rates of arrival")
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--keep", type=Path, help="folder for the recordings")
    parser.add_argument("--evaluate", type=Path, metavar="FOLDER", help="judge what was kept")
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    held_out = workloads(given.trace, given.scale)
    if given.evaluate:
        folders = sorted(given.evaluate.glob("round *"))
        rounds = [kept_round(folder, held_out) for folder in folders]
        if not rounds:
            parser.error(f"--evaluate: {given.evaluate} has no folder 'round 1'")
    else:
        with tempfile.TemporaryDirectory() as folder:
            rounds = asyncio.run(measure(given, held_out, given.keep or Path(folder)))
    found = evaluate(rounds, held_out)
    print(json.dumps(found, indent=1))
    if given.out:
        given.out.write_text(json.dumps(about_this_machine() | found, indent=1) + "\n")


if __name__ == "__main__":
    main()
