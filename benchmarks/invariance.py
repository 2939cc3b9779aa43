"""How many of 64 requests give the same tokens alone as together, under every policy.

Half are greedy, half sampled with seeds of their own; prompts and lengths differ. The engine runs
in this process, on the real default model. Prints the requests that differ, with the first place.
With `--speculation` tokens are computed ahead in the batch, and none alone; prompts repeat
themselves then, so that there is something to guess.

    python benchmarks/invariance.py --dtype int8 --speculation
"""

from __future__ import annotations

import argparse
import random
import time
from dataclasses import replace
from pathlib import Path

from headway.clock import MonotonicClock
from headway.config import DEFAULT_MODEL, EngineConfig
from headway.engine.build import draft_proposers
from headway.engine.loop import Engine
from headway.llm.weight_format import ready_model
from headway.runner import build_runner
from headway.scheduling.build import build_scheduler, speculation_of
from headway.scheduling.policy import POLICIES
from headway.scheduling.stats import Idle
from headway.types import Request, ResolvedSampling
from headway.types.engine import PolicyConfig, SchedulerConfig


def requests(count: int, vocabulary: int, repeats: int) -> list[Request]:
    draw = random.Random(3)
    return [
        Request(
            id=str(number),
            prompt=repeats
            * tuple(draw.randrange(100, vocabulary) for _ in range(draw.randrange(4, 100))),
            sampling=ResolvedSampling(
                max_tokens=draw.randrange(8, 48),
                seed=number,
                temperature=float(number % 2),
            ),
            arrival=0.0,
        )
        for number in range(count)
    ]


def generate(
    config: EngineConfig, folder: Path, asked: list[Request], *, speculation: bool
) -> tuple[dict[str, list[int]], int]:
    """Tokens by request id, and drafts that were right, from an engine of its own, in which nothing
    is cached."""
    loaded = build_runner(config, folder)
    settings = SchedulerConfig(
        policy=PolicyConfig(name=config.policy),
        limits=loaded.limits,
        num_blocks=loaded.num_blocks,
        block_size=loaded.block_size,
        speculation=config.speculative() if speculation else None,
    )
    # Nothing predicts steps, so that drafts do not depend on what this machine does besides.
    drafts = speculation_of(settings.speculation, draft_proposers(settings, None), None)
    scheduler = build_scheduler(settings, speculation=drafts)
    accepted = 0
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
            accepted += event.accepted_tokens
    return tokens, accepted


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--dtype", choices=("float32", "bfloat16", "int8", "int4"), default="float32"
    )
    parser.add_argument("--model", default=DEFAULT_MODEL)
    parser.add_argument("--requests", type=int, default=64)
    parser.add_argument("--speculation", action="store_true", help="compute tokens ahead")
    arguments = parser.parse_args()
    ahead = bool(arguments.speculation)
    config, prepared = ready_model(
        EngineConfig(
            model=arguments.model,
            dtype=arguments.dtype,
            kv_cache_memory=2**30,
            max_num_seqs=4 if ahead else 64,  # more, and no draft would pay
            max_model_len=1024,
        )
    )
    asked = requests(arguments.requests, prepared.config.vocab_size, 3 if ahead else 1)
    alone: dict[str, list[int]] = {}
    for request in asked:
        alone |= generate(config, prepared.folder, [request], speculation=False)[0]
    for policy in POLICIES:
        at_once = replace(config, policy=policy)
        together, right = generate(at_once, prepared.folder, asked, speculation=ahead)
        changed = [name for name in alone if alone[name] != together[name]]
        drafts = f", {right} drafts right" if ahead else ""
        equal = len(asked) - len(changed)
        print(f"{policy:>11}: {equal} of {len(asked)} equal{drafts}", flush=True)
        for name in changed:
            pairs = zip(alone[name], together[name], strict=True)
            place = next(place for place, (a, b) in enumerate(pairs) if a != b)
            kind = "sampled" if int(name) % 2 else "greedy"
            print(f"{'':13}request {name} ({kind}) differs from token {place} on")


if __name__ == "__main__":
    main()
