"""Two builds of Headway in turns on the same work: what a change of the kernels gave.

The other build is a checkout with its library. Every figure comes from a process of its own, one at
a time, and the builds alternate, so that what else the machine does meets both. Without HTTP.

    python benchmarks/two_builds.py --other ../before --isas avx2 --dtypes int8 int4 --out two.json
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random
from typing import Any

import workload
from headway import LLM, SamplingParams
from headway.config import EngineConfig
from headway.llm.weight_format import ready_model
from headway.runner.native import NativeRunner, build_native_runner
from parts import NAMES, Decoder
from served import MODEL, Work, about_this_machine

CONTEXT, BATCH = 256, 128  # of the table of parts
STEPS = 10
MIB = 2**20


def documents(requests: int, seed: int) -> list[Work]:
    """Prompts log-normal around 700 tokens, answers around 60."""
    draw = Random(seed)
    works = []
    for _ in range(requests):
        size = min(4000, max(64, round(draw.lognormvariate(6.55, 0.5))))
        (prompt,) = workload.prompts(1, size, draw.randrange(2**30))
        works.append(Work(prompt=prompt, tokens=min(240, max(8, round(draw.gauss(60, 20))))))
    return works


class Build:
    """What one process measures; each method returns figures by name."""

    def __init__(self, isa: str, dtype: str) -> None:
        self.settings: dict[str, Any] = {"dtype": dtype, "kv_cache_dtype": "int8", "isa": isa}

    def parts(self, number: int, _seed: int) -> dict[str, float]:
        """Milliseconds of a step of `number` sequences, by kind of operation."""
        config, prepared = ready_model(EngineConfig(model=MODEL, **self.settings))
        loaded = build_native_runner(config, prepared)
        assert isinstance(loaded.runner, NativeRunner)
        decoder = Decoder(loaded.runner, number, CONTEXT, loaded.block_size)
        decoder.step(number)
        seconds = loaded.runner.measure()
        step = statistics.median(decoder.step(number) for _ in range(STEPS))
        named = zip(NAMES, seconds, strict=True)
        return {"step": step * 1e3} | {n: s / STEPS * 1e3 for n, s in named if s > 0}

    def prompt(self, number: int, seed: int) -> dict[str, float]:
        """Seconds to the first token of a prompt of so many."""
        return {"seconds": self._seconds(workload.burst(1, seed, number), one=True)}

    def burst(self, number: int, seed: int) -> dict[str, float]:
        """Output tokens/s of so many requests of 128 tokens at once."""
        return self._rate(workload.burst(number, seed))

    def documents(self, number: int, seed: int) -> dict[str, float]:
        """Output tokens/s of so many long documents at once."""
        return self._rate(documents(number, seed))

    def _rate(self, works: list[Work]) -> dict[str, float]:
        return {"tokens/s": sum(work.tokens for work in works) / self._seconds(works)}

    def _seconds(self, works: list[Work], one: bool = False) -> float:
        with LLM(MODEL, kv_cache_memory=2048 * MIB, **self.settings) as llm:
            llm.generate([workload.prompts(1, 64, 1)[0]], SamplingParams(max_tokens=4))
            prompts = [work.prompt for work in works]
            wanted = [
                SamplingParams(max_tokens=1 if one else work.tokens, ignore_eos=True, temperature=0)
                for work in works
            ]
            started = time.perf_counter()
            llm.generate(prompts, wanted, use_tqdm=False)
            return time.perf_counter() - started


def measure_one(asked: dict[str, str | int]) -> None:
    """In a process of one build: one kind of work, whose figures are the last line printed."""
    build = Build(str(asked["isa"]), str(asked["dtype"]))
    work: Callable[[int, int], dict[str, float]] = getattr(build, str(asked["work"]))
    with contextlib.redirect_stdout(sys.stderr):
        figures = work(int(asked["number"]), int(asked["seed"]))
    print(json.dumps(figures))


def run(checkout: Path, asked: dict[str, str | int]) -> dict[str, float]:
    environment = os.environ | {"PYTHONPATH": str(checkout / "src")}
    command = [sys.executable, __file__, "--one", json.dumps(asked)]
    done = subprocess.run(
        command, env=environment, check=True, stdout=subprocess.PIPE, text=True, timeout=600
    )
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def rows(given: argparse.Namespace) -> Iterator[dict[str, object]]:
    builds = {"before": given.other, "after": Path(__file__).parents[1]}
    for number in range(given.rounds):
        for isa in given.isas:
            for dtype in given.dtypes:
                for asked in given.works:
                    work, _, size = asked.partition(":")
                    names = list(builds) if number % 2 == 0 else list(reversed(builds))
                    facts = {"isa": isa, "dtype": dtype, "work": work, "number": int(size)}
                    for name in names:
                        figures = run(builds[name], facts | {"seed": number + 2})
                        yield {"round": number, "build": name, **facts, "figures": figures}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--one", type=json.loads, help=argparse.SUPPRESS)
    parser.add_argument("--other", type=Path, help="a checkout whose library is built")
    parser.add_argument("--isas", nargs="+", default=["avx2"])
    parser.add_argument("--dtypes", nargs="+", choices=("int8", "int4"), default=["int8", "int4"])
    parser.add_argument(
        "--works",
        nargs="+",
        default=[f"parts:{BATCH}", "prompt:700", "prompt:8064", "burst:128", "documents:48"],
        help="parts:BATCH, prompt:TOKENS, burst:REQUESTS, documents:REQUESTS",
    )
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    if given.one:
        measure_one(given.one)
        return
    found = []
    for row in rows(given):
        found.append(row)
        print(json.dumps(row), flush=True)
        if given.out:
            record = about_this_machine() | {"load before": os.getloadavg()[2], "rows": found}
            given.out.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
