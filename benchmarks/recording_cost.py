"""What `--record` costs: throughput of the same work with and without it, in turns.

A burst of 128 requests (many sequences a step) and one stream (many short steps), each on an engine
of its own; the order changes every round. Prints medians over rounds and the ratio, which a noisy
machine blurs. So the recorder's own time is measured as well, as a share of all the time that an
engine takes for the same work.

    python benchmarks/recording_cost.py --rounds 8 --out results.json
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import tempfile
import time
import zlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from random import Random

from headway.bench.drive import drive
from headway.bench.engine_target import EngineTarget
from headway.blocks import BlockPool
from headway.clock import MonotonicClock
from headway.config import EngineConfig
from headway.engine.build import describe, engine_line
from headway.engine.loop import Engine, Watch
from headway.engine.record_file import RecordFile
from headway.engine.recorder import Recorder
from headway.llm import AsyncLLM
from headway.llm.storage import ready_model
from headway.policy import make_policy
from headway.runner import build_runner
from headway.scheduler import Scheduler
from headway.types import Request, ResolvedSampling
from headway.workload.arrivals import at_once
from headway.workload.job import Job, Workload
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


class Timed:
    """A watch of the engine that is timed where it stands, between steps that fill the caches."""

    def __init__(self, watch: Watch) -> None:
        self._watch = watch
        self.seconds = 0.0

    def __getattr__(self, name: str) -> Callable[..., None]:
        inner = getattr(self._watch, name)

        def timed(*args: object) -> None:
            began = time.perf_counter()
            inner(*args)
            self.seconds += time.perf_counter() - began

        return timed


def recorder_shares(path: Path) -> dict[str, float]:
    """Time in the recorder as a share of all time, in an engine of this process."""
    config, prepared = ready_model(EngineConfig())
    loaded = build_runner(config, prepared.folder)
    scheduler = Scheduler(
        policy=make_policy(config.policy, dynamic_wait=config.dynamic_wait),
        pool=BlockPool(num_blocks=loaded.num_blocks, block_size=loaded.block_size),
        limits=loaded.limits,
        prefix_caching=config.enable_prefix_caching,
        reserve_all=False,
    )
    line = engine_line(config, describe(config, loaded))
    watch = Timed(Recorder(engine=line, leftover=scheduler.leftover, sink=RecordFile(path)))
    engine = Engine(scheduler=scheduler, runner=loaded.runner, clock=MonotonicClock(), watch=watch)
    shares = {}
    for name, (workload, at_a_time) in workloads(0).items():
        watch.seconds, began = 0.0, time.perf_counter()
        waiting = [asked(f"{name} {i}", job) for i, job in enumerate(workload.jobs)]
        while waiting or engine.has_work:
            room = at_a_time is None or not engine.has_work
            while waiting and room:
                engine.add(waiting.pop())
                room = at_a_time is None
            engine.step()
        shares[name] = watch.seconds / (time.perf_counter() - began)
    return shares


def asked(name: str, job: Job) -> Request:
    seed = zlib.crc32(name.encode())
    prompt = tuple(Random(seed).choices(range(1000, 40000), k=job.prompt_tokens))
    sampling = ResolvedSampling(max_tokens=job.output, seed=seed)
    return Request(id=name, prompt=prompt, sampling=sampling, arrival=time.monotonic())


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
        shares = recorder_shares(Path(folder) / "own.jsonl")
    ratios = {}
    for name in workloads(0):
        pairs = zip(rates[name, True], rates[name, False], strict=True)
        ratios[name] = statistics.median(on / off for on, off in pairs)
        print(f"{name}: recorded over not, median of rounds: {ratios[name]:.4f}")
    for name, share in shares.items():
        print(f"{name}: the recorder takes {share:.3%} of the time")
    if given.out:
        record = about_this_machine() | {
            "runs": runs,
            "recorded over not": ratios,
            "recorder's share of the time": shares,
        }
        given.out.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
