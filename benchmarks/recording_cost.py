"""What `--record` costs: the same work on one engine, with and without its recorder, in turns.

A burst of 64 requests (many sequences a step) and one stream (many short steps). One engine, since
two that were started alike differ by more than a recorder costs. Prints the ratio of the times, the
middle of all rounds with its standard error, and the recorder's own share of the time, which was
measured where it works: between steps that fill the caches.

    python benchmarks/recording_cost.py --rounds 24 --out results.json
"""

from __future__ import annotations

import argparse
import gc
import json
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from headway.clock import MonotonicClock
from headway.config import EngineConfig
from headway.engine.build import describe, engine_line
from headway.engine.loop import Engine, EngineObserver
from headway.llm.weight_format import ready_model
from headway.perf.workload.lengths import parse_lengths
from headway.perf.workload.synthetic import at_once, synthesize
from headway.perf.workload.workload import WorkloadRequest, vocabulary_tokens
from headway.recording.recorder import Recorder, RecordFile
from headway.runner import build_runner
from headway.scheduling.build import build_scheduler
from headway.types import Request, ResolvedSampling
from served import about_this_machine

LOADS = {"burst": (64, "exponential:96:384", 64), "one stream": (4, "128", 1)}
"""Requests, tokens of an answer, and how many requests at a time."""


class Switch:
    """An observer that can be turned off between requests, and whose time is measured."""

    def __init__(self, observer: EngineObserver) -> None:
        self._observer = observer
        self.on = True
        self.seconds = 0.0

    def __getattr__(self, name: str) -> Callable[..., None]:
        inner = getattr(self._observer, name)

        def timed(*args: object) -> None:
            began = time.perf_counter()
            inner(*args)
            self.seconds += time.perf_counter() - began

        return timed if self.on else _nothing


def _nothing(*_: object) -> None:
    pass


def switched_engine(path: Path) -> tuple[Engine, Switch]:
    config, prepared = ready_model(EngineConfig())
    loaded = build_runner(config, prepared.folder)
    info = describe(config, loaded)
    scheduler = build_scheduler(info.scheduler)
    line = engine_line(config, info)
    switch = Switch(Recorder(engine=line, idle_stats=scheduler.idle_stats, sink=RecordFile(path)))
    engine = Engine(
        scheduler=scheduler, runner=loaded.runner, clock=MonotonicClock(), observer=switch
    )
    gc.collect()
    gc.freeze()
    return engine, switch


def requests_of(load: str, round_number: int) -> Sequence[WorkloadRequest]:
    requests, output, _ = LOADS[load]
    return synthesize(
        num_requests=requests,
        prompt=parse_lengths("128"),
        output=parse_lengths(output),
        arrivals=at_once,
        seed=round_number,
    ).requests


def seconds_for(engine: Engine, requests: Sequence[WorkloadRequest], at_a_time: int) -> float:
    """Seconds until all are answered. With its own salt no call hits what an earlier one cached."""
    salt = f"{time.monotonic_ns():x}"
    waiting = [_request(f"{salt}-{i}", request, salt) for i, request in enumerate(requests)]
    began, under_way = time.perf_counter(), 0
    while waiting or engine.has_work:
        while waiting and under_way < at_a_time:
            engine.add(waiting.pop())
            under_way += 1
        events = engine.step()
        if isinstance(events, list):
            under_way -= sum(event.finish is not None for event in events)
    return time.perf_counter() - began


def _request(name: str, request: WorkloadRequest, salt: str) -> Request:
    sampling = ResolvedSampling(max_tokens=request.output, seed=0)
    prompt = tuple(vocabulary_tokens(request))
    return Request(
        id=name, prompt=prompt, sampling=sampling, arrival=time.monotonic(), cache_salt=salt
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=24)
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    runs: list[dict[str, object]] = []
    with tempfile.TemporaryDirectory() as folder:
        engine, switch = switched_engine(Path(folder) / "steps.jsonl")
        seconds_for(engine, requests_of("burst", -1), 64)
        for round_number in range(given.rounds):
            for load, (_, _, at_a_time) in LOADS.items():
                run: dict[str, object] = {"round": round_number, "load": load}
                for switch.on in (False, True) if round_number % 2 else (True, False):
                    switch.seconds = 0.0
                    seconds = seconds_for(engine, requests_of(load, round_number), at_a_time)
                    run["on" if switch.on else "off"] = seconds
                    if switch.on:
                        run["share"] = switch.seconds / seconds
                runs.append(run)
                print(json.dumps(run), flush=True)
    found = {load: _middle([run for run in runs if run["load"] == load]) for load in LOADS}
    for load, figures in found.items():
        print(load, json.dumps(figures))
    if given.out:
        record = about_this_machine() | {"runs": runs, "found": found}
        given.out.write_text(json.dumps(record, indent=1) + "\n")


def _middle(runs: Sequence[dict[str, object]]) -> dict[str, float]:
    ratios = [float(str(run["on"])) / float(str(run["off"])) for run in runs]
    return {
        "time with over without": statistics.median(ratios),
        "standard error": statistics.stdev(ratios) / len(ratios) ** 0.5,
        "recorder's share": statistics.median(float(str(run["share"])) for run in runs),
    }


if __name__ == "__main__":
    main()
