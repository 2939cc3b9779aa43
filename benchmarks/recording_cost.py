"""What `--record` costs: throughput of the same work with and without it, in turns.

A burst of 128 requests (many sequences a step) and one stream (many short steps), each on an engine
of its own; the order changes every round. Prints medians over rounds and the ratio, which a noisy
machine blurs. So the recorder's own time is measured as well: every recorded step is recorded once
more, alone and timed, and set against the time the step took.

    python benchmarks/recording_cost.py --rounds 8 --out results.json
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import tempfile
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from headway.bench.drive import drive
from headway.bench.engine_target import EngineTarget
from headway.config import EngineConfig
from headway.engine.record_file import RecordFile
from headway.engine.recorder import Recorder
from headway.llm import AsyncLLM
from headway.recording.lines import Recording, RequestLine, StepLine
from headway.recording.reader import read_recordings
from headway.recording.tokens import recorded_tokens
from headway.scheduler.stats import SchedulerStats
from headway.types import Request, ResolvedSampling, Slice, StepPlan, StepResult, TokenEvent
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


def recorder_share(recording: Recording, path: Path) -> float:
    """Time in the recorder for all that was recorded, as a share of the time the steps took."""
    sink = RecordFile(path)
    recorder = Recorder(engine=recording.engine, stats=SchedulerStats, sink=sink)
    lives = {line.seq: line for line in recording.requests if line.seq}
    for seq in sorted(lives):
        recorder.added(asked(lives[seq], recording.engine.block_size), None, lives[seq].arrival)
    spent = 0.0
    for step in recording.steps:
        plan, events = happened(step, lives)
        result = StepResult(step=step.step, sampled=(), seconds=step.run)
        began = time.perf_counter()
        recorder.stepped(plan, result, events, step.at, step.at + step.run)
        spent += time.perf_counter() - began
    sink.close()
    return spent / sum(step.cycle for step in recording.steps)


def asked(line: RequestLine, block_size: int) -> Request:
    prompt = recorded_tokens(line, block_size)[: line.prompt_tokens]
    sampling = ResolvedSampling(max_tokens=line.max_tokens, seed=line.seq)
    return Request(id=line.id, prompt=prompt, sampling=sampling, arrival=line.arrival)


def happened(step: StepLine, lives: Mapping[int, RequestLine]) -> tuple[StepPlan, list[TokenEvent]]:
    """A recorded step as the engine saw it."""
    slices = [
        Slice(seq=seq, start=start, tokens=range(tokens), blocks=(), sample=sample)
        for seq, start, tokens, sample in step.slices
    ]
    events = []
    for part in slices:
        line = lives[part.seq]
        if part.sample:
            finish = line.finish if line.end_step == step.step else None
            events.append(TokenEvent(id=line.id, tokens=(0,), finish=finish))
    return StepPlan(step=step.step, slices=slices, ended=step.ended), events


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    runs: list[dict[str, object]] = []
    rates: dict[tuple[str, bool], list[float]] = {}
    shares: list[float] = []
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
                if path:
                    (recording,) = read_recordings(Path(path))
                    shares.append(recorder_share(recording, Path(folder) / "again.jsonl"))
    ratios = {}
    for name in workloads(0):
        pairs = zip(rates[name, True], rates[name, False], strict=True)
        ratios[name] = statistics.median(on / off for on, off in pairs)
        print(f"{name}: recorded over not, median of rounds: {ratios[name]:.4f}")
    share = statistics.median(shares)
    print(f"the recorder's own time: {share:.4%} of the steps'")
    if given.out:
        record = about_this_machine() | {
            "runs": runs,
            "recorded over not": ratios,
            "recorder's share of the steps' time": share,
        }
        given.out.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
