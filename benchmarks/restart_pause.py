"""How long do streams pause when the engine is killed, with and without a cache that outlives it?

A real engine process answers 32 requests with 2,000 tokens of context each. Once all of them are
decoding it is killed, and the next one goes on with them: from the KV cache that the first one left
(`keep`), or by computing all contexts again (`lose`), in turns. Printed are the pause of each
stream, from the kill to its next token; the part of it that any restart takes, until the new engine
is ready; and the time between two tokens before the kill, which memory that is shared may cost.
Tokens of all rounds are compared: they must be the same.

    python benchmarks/restart_pause.py --rounds 3 --out benchmarks/results/restart-pause.json
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import os
import random
import signal
import statistics
import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from headway.client import EngineClient
from headway.config import DEFAULT_MODEL, EngineConfig
from headway.llm.weight_format import ready_model
from headway.types import Request, ResolvedSampling, TokenEvent
from headway.wire import EngineStats
from rounds import in_turns, table
from served import about_this_machine

SYSTEMS = ("keep", "lose")


@dataclass(kw_only=True)
class Heard:
    """What all streams of a round were told, and when."""

    tokens: dict[str, list[int]] = field(default_factory=lambda: defaultdict(list))
    times: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    """Seconds at which tokens came, a time for each event."""

    def hear(self, events: Sequence[TokenEvent], _: EngineStats, now: float) -> None:
        for event in events:
            if event.tokens:
                self.tokens[event.id] += event.tokens
                self.times[event.id].append(now)


def requests(streams: int, context: int, tokens: int) -> list[Request]:
    """Prompts of random tokens, half of the answers greedy and half sampled."""
    draw = random.Random(15)
    return [
        Request(
            id=str(number),
            prompt=tuple(draw.randrange(100, 40_000) for _ in range(context)),
            sampling=ResolvedSampling(
                max_tokens=tokens, seed=number, temperature=0.8 * (number % 2)
            ),
            arrival=0.0,
        )
        for number in range(streams)
    ]


async def run(
    config: EngineConfig, folder: Path, asked: Sequence[Request], *, before: int, after: int
) -> Heard:
    """One round: the engine is killed once every stream has had `before` tokens, and the round ends
    once each has had `after` more."""
    client = await EngineClient.start(config, folder)
    heard = Heard()
    try:
        client.subscribe(heard.hear)
        client.submit(*asked)
        await all_have(before, heard, asked)
        heard.times["killed"] = [time.monotonic()]
        os.kill(client.pid or 0, signal.SIGKILL)
        while client.restarts == 0 or client.state != "ready":
            await asyncio.sleep(0.001)
        heard.times["ready"] = [time.monotonic()]
        heard.times["adopted"] = [client.info.adopted_blocks * client.info.scheduler.block_size]
        had = max(len(heard.tokens[each.id]) for each in asked)
        await all_have(had + after, heard, asked)
    finally:
        await client.close()
    return heard


async def all_have(count: int, heard: Heard, asked: Sequence[Request]) -> None:
    while any(len(heard.tokens[each.id]) < count for each in asked):
        await asyncio.sleep(0.001)


def figures(heard: Heard, asked: Sequence[Request]) -> dict[str, float]:
    killed, ready = heard.times["killed"][0], heard.times["ready"][0]
    pauses, steps = [], []
    for request in asked:
        times = heard.times[request.id]
        pauses.append(min(at for at in times if at > ready) - killed)
        decodes = [at for at in times if at <= killed][-10:]
        steps += [later - at for at, later in itertools.pairwise(decodes)]
    return {
        "median pause s": statistics.median(pauses),
        "longest pause s": max(pauses),
        "of it until the engine is ready s": ready - killed,
        "tokens adopted": heard.times["adopted"][0],
        "ITL before ms": 1000 * statistics.median(steps),
    }


def agree(one: dict[str, list[int]], other: dict[str, list[int]]) -> bool:
    """Whether every stream has the same tokens, as far as both rounds went."""
    pairs = [(one[name], other[name]) for name in one]
    return all(a[: len(b)] == b[: len(a)] for a, b in pairs)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default=DEFAULT_MODEL)
    parser.add_argument("--streams", type=int, default=32)
    parser.add_argument("--context", type=int, default=2000)
    parser.add_argument("--before", type=int, default=24, help="tokens of each before the kill")
    parser.add_argument("--after", type=int, default=24, help="tokens of each after it")
    parser.add_argument("--most", type=int, default=2048, help="tokens that a stream may have")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", type=Path, help="a file for the record, as JSON")
    args = parser.parse_args()
    asked = requests(args.streams, args.context, args.most)
    config, prepared = ready_model(EngineConfig(model=args.model))
    rows: dict[str, list[dict[str, float]]] = {name: [] for name in SYSTEMS}
    answers: list[dict[str, list[int]]] = []
    for number, name in in_turns(SYSTEMS, args.rounds):
        settings = replace(config, keep_kv_cache=name == "keep")
        heard = asyncio.run(
            run(settings, prepared.folder, asked, before=args.before, after=args.after)
        )
        rows[name].append(figures(heard, asked))
        answers.append({each.id: heard.tokens[each.id] for each in asked})
        print(f"round {number + 1} {name}: {rows[name][-1]}", flush=True)
        different = sum(not agree(answers[0], each) for each in answers)
        if args.out is not None:  # after each, as they take minutes
            record = {**about_this_machine(), **vars(args), "out": None, "different": different}
            args.out.write_text(json.dumps(record | {"rounds": rows}, indent=1) + "\n")
    print(f"\n{table(rows)}\nrounds with other tokens: {different} of {len(answers)}")


if __name__ == "__main__":
    main()
