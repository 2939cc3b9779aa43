"""How many of 64 requests give the same tokens alone as together, under every policy.

Half are greedy, half sampled with seeds of their own; prompts and lengths differ. The engine runs
in this process, on the real default model. Prints the requests that differ, with the first place.

    python benchmarks/invariance.py --dtype float32
"""

from __future__ import annotations

import argparse
import random
import time
from dataclasses import replace
from pathlib import Path

from headway.checkpoint import prepare
from headway.clock import MonotonicClock
from headway.config import DEFAULT_MODEL, EngineConfig
from headway.engine.loop import Engine
from headway.runner import build_runner
from headway.scheduling.build import build_scheduler
from headway.scheduling.policy import POLICIES
from headway.scheduling.stats import Idle
from headway.types import Request, ResolvedSampling
from headway.types.engine import PolicyConfig, SchedulerConfig


def requests(count: int, vocabulary: int) -> list[Request]:
    draw = random.Random(3)
    return [
        Request(
            id=str(number),
            prompt=tuple(draw.randrange(100, vocabulary) for _ in range(draw.randrange(4, 100))),
            sampling=ResolvedSampling(
                max_tokens=draw.randrange(8, 48),
                seed=number,
                temperature=float(number % 2),
            ),
            arrival=0.0,
        )
        for number in range(count)
    ]


def generate(config: EngineConfig, folder: Path, asked: list[Request]) -> dict[str, list[int]]:
    """Tokens by request id, from an engine of its own, in which nothing is cached."""
    loaded = build_runner(config, folder)
    scheduler = build_scheduler(
        SchedulerConfig(
            policy=PolicyConfig(name=config.policy),
            limits=loaded.limits,
            num_blocks=loaded.num_blocks,
            block_size=loaded.block_size,
        )
    )
    engine = Engine(scheduler=scheduler, runner=loaded.runner, clock=MonotonicClock())
    tokens: dict[str, list[int]] = {request.id: [] for request in asked}
    for request in asked:
        engine.add(request)
    while engine.has_work:
        news = engine.step()
        if isinstance(news, Idle):
            time.sleep(0.01)
            continue
        for event in news:
            tokens[event.id] += event.tokens
    return tokens


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32")
    parser.add_argument("--model", default=DEFAULT_MODEL)
    parser.add_argument("--requests", type=int, default=64)
    arguments = parser.parse_args()
    prepared = prepare(arguments.model, dtype=arguments.dtype)
    config = EngineConfig(dtype=arguments.dtype, kv_cache_memory=2**30, max_num_seqs=64)
    asked = requests(arguments.requests, prepared.config.vocab_size)
    alone: dict[str, list[int]] = {}
    for request in asked:
        alone |= generate(config, prepared.folder, [request])
    for policy in POLICIES:
        together = generate(replace(config, policy=policy), prepared.folder, asked)
        changed = [name for name in alone if alone[name] != together[name]]
        print(f"{policy:>11}: {len(asked) - len(changed)} of {len(asked)} equal", flush=True)
        for name in changed:
            pairs = zip(alone[name], together[name], strict=True)
            place = next(place for place, (a, b) in enumerate(pairs) if a != b)
            kind = "sampled" if int(name) % 2 else "greedy"
            print(f"{'':13}request {name} ({kind}) differs from token {place} on")


if __name__ == "__main__":
    main()
