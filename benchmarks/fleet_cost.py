"""What does the fleet cost where there is one engine, and are two small ones better than one?

Three systems answer the same requests in turns: one engine with all cores and no fleet (`one`, what
`--replicas 1` is), a fleet of that one (`fleet of one`), and a fleet of two engines with half of
the cores each (`fleet of two`). All are started first, and those that have no turn do nothing. Each
turn sends so many requests at once and lets all of them decode; figures are compared with those of
`one` in the same round. Tokens must be the same everywhere.

A per cent is looked for, so rounds count only in which other processes left the machine alone: the
cores that they had during a turn are measured, and rounds are added until enough of them count.

    python benchmarks/fleet_cost.py --streams 1 2 8 32 --rounds 8 --out results.json
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import time
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from itertools import pairwise
from pathlib import Path
from random import Random

from headway.client import EngineClient
from headway.client.fleet import EngineFleet
from headway.client.handle import EngineHandle
from headway.config import DEFAULT_MODEL, EngineConfig
from headway.llm.weight_format import ready_model
from headway.routing import ROUTERS
from headway.types import Request, ResolvedSampling
from headway.types.fleet import RouterName
from rounds import in_turns, table
from served import about_this_machine

ONE, FLEET_OF_ONE, FLEET_OF_TWO = SYSTEMS = ("one", "fleet of one", "fleet of two")
Answers = dict[int, tuple[int, ...]]
Figures = dict[str, float]

OTHERS = "cores of others"
QUIET_CORES = 0.1
"""A turn counts if other processes had no more than this."""
TICKS = os.sysconf("SC_CLK_TCK")


def used(engine: EngineHandle) -> float:
    """Core-seconds that this process and the system's engines have had so far."""
    ticks = 0
    for each in engine.replicas:
        fields = Path(f"/proc/{each.pid}/stat").read_text().rpartition(")")[2].split()
        ticks += int(fields[11]) + int(fields[12])
    return time.process_time() + ticks / TICKS


def used_by_all() -> float:
    """Core-seconds that anybody has had, other guests of the machine included."""
    user, nice, system, _, _, irq, softirq, steal = (
        int(field) for field in Path("/proc/stat").read_text().split()[1:9]
    )
    return (user + nice + system + irq + softirq + steal) / TICKS


def requests(streams: int, prompt: int, tokens: int, number: int) -> list[Request]:
    """Those of a round: other prompts in each, so that no prefix cache has them."""
    draw = Random(number)
    return [
        Request(
            id=f"{number}.{stream}",
            prompt=tuple(draw.randrange(100, 20_000) for _ in range(prompt)),
            sampling=ResolvedSampling(
                max_tokens=tokens, min_tokens=tokens, temperature=0.0, seed=stream
            ),
            arrival=time.monotonic(),
        )
        for stream in range(streams)
    ]


async def listen(engine: EngineHandle, request: Request) -> tuple[list[int], list[float]]:
    """The tokens of one request, and when each event with tokens came."""
    tokens: list[int] = []
    times: list[float] = []
    async for event in engine.submit(request):
        if event.tokens:
            tokens += event.tokens
            times.append(time.perf_counter())
    return tokens, times


async def turn(engine: EngineHandle, asked: Sequence[Request]) -> tuple[Figures, Answers]:
    """All of these at once."""
    other = used_by_all() - used(engine)
    began, cpu = time.perf_counter(), time.process_time()
    heard = await asyncio.gather(*(listen(engine, each) for each in asked))
    seconds, cpu = time.perf_counter() - began, time.process_time() - cpu
    other = used_by_all() - used(engine) - other
    count = sum(len(tokens) for tokens, _ in heard)
    gaps = sorted(b - a for _, times in heard for a, b in pairwise(times))
    figures = {
        "tokens/s": count / seconds,
        "ITL ms": 1e3 * statistics.fmean(gaps),
        "ITL p50 ms": 1e3 * statistics.median(gaps),
        "ITL p99 ms": 1e3 * gaps[int(0.99 * len(gaps))],
        "TTFT ms": 1e3 * statistics.fmean(times[0] - began for _, times in heard),
        "API process us a token": 1e6 * cpu / count,
        OTHERS: max(0.0, other / seconds),
    }
    return figures, {number: tuple(tokens) for number, (tokens, _) in enumerate(heard)}


async def start(
    stack: AsyncExitStack, config: EngineConfig, prepared: Path, router: RouterName
) -> dict[str, EngineHandle]:
    """All systems; the stack closes them."""
    engines: dict[str, EngineHandle] = {}
    engines[ONE] = await EngineClient.start(config, prepared)
    stack.push_async_callback(engines[ONE].close)
    for replicas, name in enumerate((FLEET_OF_ONE, FLEET_OF_TWO), start=1):
        engines[name] = await EngineFleet.start(config, prepared, replicas=replicas, router=router)
        stack.push_async_callback(engines[name].close)
    return engines


def quiet(rounds: Mapping[str, Sequence[Figures]]) -> list[int]:
    """The rounds that are complete, and in which others left the machine alone."""
    complete = min(len(turns) for turns in rounds.values())
    return [
        number
        for number in range(complete)
        if all(turns[number][OTHERS] <= QUIET_CORES for turns in rounds.values())
    ]


def against_one(rounds: Mapping[str, Sequence[Figures]]) -> dict[str, dict[str, list[float]]]:
    """Least, median and most of each figure, in parts of that of `one` in the same quiet round."""
    told: dict[str, dict[str, list[float]]] = {}
    numbers = quiet(rounds)
    for name in SYSTEMS[1:] if numbers else ():
        pairs = [(rounds[name][number], rounds[ONE][number]) for number in numbers]
        told[name] = {}
        for figure in pairs[0][0]:
            if figure != OTHERS:
                ratios = [other[figure] / one[figure] for other, one in pairs]
                told[name][figure] = [min(ratios), statistics.median(ratios), max(ratios)]
    return told


async def take_turns(
    engines: Mapping[str, EngineHandle], streams: int, args: argparse.Namespace
) -> tuple[dict[str, list[Figures]], int]:
    """The turns of each system with so many streams, and how many gave other tokens."""
    rows: dict[str, list[Figures]] = {name: [] for name in SYSTEMS}
    answers: dict[int, Answers] = {}
    different = 0
    for number, name in in_turns(SYSTEMS, args.most, seconds=args.seconds):
        if len(quiet(rows)) == args.rounds:
            break
        asked = requests(streams, args.prompt, args.tokens, 1000 * streams + number)
        figures, answered = await turn(engines[name], asked)
        rows[name].append(figures)
        different += answers.setdefault(number, answered) != answered
    return rows, different


async def measure(args: argparse.Namespace) -> dict[str, object]:
    """Everything, for each number of streams."""
    config, prepared = ready_model(
        EngineConfig(model=args.model, max_model_len=1024, kv_cache_memory=args.kv_cache_memory)
    )
    told: dict[str, object] = {}
    different = 0
    async with AsyncExitStack() as stack:
        engines = await start(stack, config, prepared.folder, args.router)
        for engine in engines.values():  # what is slow once only
            await turn(engine, requests(max(args.streams), args.prompt, 16, 10**6))
        for streams in args.streams:
            rows, wrong = await take_turns(engines, streams, args)
            different += wrong
            numbers, ratios = quiet(rows), against_one(rows)
            told[str(streams)] = {"quiet": numbers, "against one": ratios, "rounds": rows}
            counted = {name: [turns[each] for each in numbers] for name, turns in rows.items()}
            print(f"\n{streams} streams, {len(rows[ONE])} rounds\n\n{table(counted)}")
            for name, each in ratios.items():
                for figure, (least, median, most) in each.items():
                    print(f"{name}: {figure} {median:.3f} ({least:.3f}-{most:.3f})", flush=True)
    print(f"\nturns with other tokens: {different}")
    return {"turns with other tokens": different, "streams": told}


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default=DEFAULT_MODEL)
    parser.add_argument("--router", choices=ROUTERS, default="predicted")
    parser.add_argument("--streams", type=int, nargs="+", default=[1, 2, 8, 32])
    parser.add_argument("--prompt", type=int, default=64, help="tokens of each (default: 64)")
    parser.add_argument("--tokens", type=int, default=96, help="of each answer (default: 96)")
    parser.add_argument("--rounds", type=int, default=8, help="that count (default: 8)")
    parser.add_argument("--most", type=int, default=50, help="rounds at most (default: 50)")
    parser.add_argument("--seconds", type=float, default=120, help="for each number of streams")
    parser.add_argument("--kv-cache-memory", type=int, default=256 * 2**20, help="bytes for each")
    parser.add_argument("--out", type=Path, help="write the record there, as JSON")
    args = parser.parse_args()
    told = asyncio.run(measure(args))
    if args.out is not None:
        record = {**about_this_machine(), **vars(args), "out": None, **told}
        args.out.write_text(json.dumps(record, indent=1) + "\n")
    return 1 if told["turns with other tokens"] else 0


if __name__ == "__main__":
    raise SystemExit(main())
