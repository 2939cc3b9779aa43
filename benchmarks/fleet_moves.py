"""Does a fleet lose or change anything, whatever becomes of its engines?

Requests are answered once by a fleet that is left alone, and then again under faults and changes:
engines are killed, replicas are drained and replaced, the fleet is made smaller and larger, and all
engines are replaced in a rolling update, one thing after the other, while so many requests are in
flight at all times. Half of the requests are greedy, half are sampled at temperature 0.9 with
seeds. Every answer is compared with the undisturbed one, token by token.

    python benchmarks/fleet_moves.py --replicas 3 --requests 200 --out results.json
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from random import Random

from headway.client.fleet import EngineFleet
from headway.client.fleet.member import FleetMember
from headway.config import DEFAULT_MODEL, EngineConfig
from headway.llm.weight_format import ready_model
from headway.routing import ROUTERS
from headway.types import Request, ResolvedSampling


@dataclass(slots=True, kw_only=True)
class Outcome:
    """What became of the requests of one run."""

    tokens: dict[str, tuple[int, ...]] = field(default_factory=dict)
    """Of those that ended as they should."""
    lost: list[str] = field(default_factory=list)
    """Those that ended otherwise, with the reason."""
    told_twice: int = 0
    """Those that were told more than once when they were scheduled."""


def make_requests(count: int, seed: int) -> list[Request]:
    """Prompts of 8 to 300 tokens, every third with a beginning that others have, too."""
    random = Random(seed)
    shared = tuple(random.randrange(100, 20_000) for _ in range(128))
    made = []
    for number in range(count):
        own = tuple(random.randrange(100, 20_000) for _ in range(random.randrange(8, 172)))
        made.append(
            Request(
                id=f"r{number}",
                prompt=own if number % 3 else shared + own,
                sampling=ResolvedSampling(
                    max_tokens=random.randrange(16, 128),
                    seed=number,
                    temperature=0.9 if number % 2 else 0.0,
                    top_p=0.95,
                ),
                arrival=float(number),
            )
        )
    return made


async def ask(fleet: EngineFleet, request: Request, outcome: Outcome) -> None:
    """One request to its end."""
    tokens: list[int] = []
    scheduled = 0
    finish: str | None = None
    async for event in fleet.submit(replace(request, arrival=time.monotonic())):
        tokens += event.tokens
        scheduled += event.scheduled_at is not None
        if event.finish is not None:
            finish = event.error or event.finish
    outcome.told_twice += scheduled > 1
    if finish == "length" and len(tokens) == request.sampling.max_tokens:
        outcome.tokens[request.id] = tuple(tokens)
    else:
        outcome.lost.append(f"{request.id}: {finish}, {len(tokens)} tokens")


async def answer(
    fleet: EngineFleet, requests: Sequence[Request], live: int, busy: asyncio.Event | None = None
) -> Outcome:
    """All requests, so many at a time; as long as `busy` is not set, all of them once more."""
    outcome = Outcome()

    def supply() -> Iterator[Request]:
        yield from requests
        turn = 1
        while busy is not None and not busy.is_set():
            for request in requests:
                if busy.is_set():
                    return
                yield replace(request, id=f"{request.id}.{turn}")
            turn += 1

    source = supply()

    async def work() -> None:
        for request in source:
            await ask(fleet, request, outcome)

    await asyncio.gather(*(work() for _ in range(live)))
    return outcome


class Operator:
    """Does all that is to be done to a fleet, in an order drawn at random."""

    def __init__(self, fleet: EngineFleet, counts: Counter[str], seed: int) -> None:
        self.moved = 0
        """Requests that drains have moved."""
        self.done: Counter[str] = Counter()
        self._fleet = fleet
        self._random = Random(seed)
        self._plan = list(counts.elements())
        self._random.shuffle(self._plan)

    async def run(self) -> None:
        for action in self._plan:
            await asyncio.sleep(self._random.uniform(0.1, 0.6))
            began = time.monotonic()
            match action:
                case "kill":
                    await self._kill()
                case "drain":
                    await self._drain()
                    await self._fleet.add_replica()
                case "scale-down":
                    await self._drain()
                    await asyncio.sleep(self._random.uniform(0.5, 1.5))
                    await self._fleet.add_replica()
                case _:
                    await self._fleet.restart()
            self.done[action] += 1
            print(f"{action}: {time.monotonic() - began:.1f} s, live {self._fleet.live}")

    async def _kill(self) -> None:
        """Kill an engine in which nobody is suspected: who runs alone then would be blamed."""
        while not (open_ones := [each for each in self._fleet.members if _may_die(each)]):
            await asyncio.sleep(0.01)
        victim = self._random.choice(open_ones)
        assert victim.client.pid is not None
        os.kill(victim.client.pid, signal.SIGKILL)
        while victim.client.state == "ready":
            await asyncio.sleep(0.01)

    async def _drain(self) -> None:
        while len(ready := [each for each in self._fleet.members if each.open]) < 2:
            await asyncio.sleep(0.01)
        self.moved += await self._fleet.drain(self._random.choice(ready).id)


def _may_die(replica: FleetMember) -> bool:
    return replica.open and replica.client.pid is not None and replica.client.live > 1


def compare(undisturbed: Outcome, disturbed: Outcome) -> list[str]:
    """Ids of the answers that differ from what the same request got when nothing happened."""
    return [
        name
        for name, tokens in disturbed.tokens.items()
        if undisturbed.tokens.get(name.partition(".")[0]) != tokens
    ]


async def measure(arguments: argparse.Namespace) -> dict[str, object]:
    config = EngineConfig(
        model=arguments.model, max_model_len=512, kv_cache_memory=arguments.kv_cache_memory
    )
    config, prepared = ready_model(config)
    requests = make_requests(arguments.requests, arguments.seed)
    counts = Counter(
        {
            "kill": arguments.kills,
            "drain": arguments.drains,
            "scale-down": arguments.scale_downs,
            "rolling update": arguments.updates,
        }
    )
    fleet = await EngineFleet.start(
        config, prepared.folder, replicas=arguments.replicas, router=arguments.router
    )
    try:
        undisturbed = await answer(fleet, requests, arguments.live)
        operator, over = Operator(fleet, counts, arguments.seed), asyncio.Event()
        answering = asyncio.ensure_future(answer(fleet, requests, arguments.live, over))
        try:
            await operator.run()
        finally:
            over.set()
        disturbed = await answering
        stats = fleet.stats
        return {
            "replicas": arguments.replicas,
            "answers": len(disturbed.tokens) + len(disturbed.lost),
            "done": dict(operator.done),
            "moved by drains": operator.moved,
            "engine restarts": fleet.restarts,
            "lost undisturbed": undisturbed.lost,
            "lost": disturbed.lost,
            "changed": compare(undisturbed, disturbed),
            "told twice": disturbed.told_twice,
            "left behind": {"live": fleet.live, "running": stats.running},
        }
    finally:
        await fleet.close()


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default=DEFAULT_MODEL)
    parser.add_argument("--replicas", type=int, default=3, help="engines (default: 3)")
    parser.add_argument("--router", choices=ROUTERS, default="least-requests")
    parser.add_argument("--requests", type=int, default=200)
    parser.add_argument("--live", type=int, default=24, help="requests at a time (default: 24)")
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--drains", type=int, default=5, help="each with a new replica after it")
    parser.add_argument("--scale-downs", type=int, default=3, help="each with a while in between")
    parser.add_argument("--updates", type=int, default=1, help="rolling updates (default: 1)")
    parser.add_argument("--kv-cache-memory", type=int, default=256 * 2**20, help="bytes for each")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, help="write the result there, as JSON")
    arguments = parser.parse_args()
    result = asyncio.run(measure(arguments))
    text = json.dumps(result, indent=2)
    print(text)
    if arguments.out is not None:
        arguments.out.write_text(text + "\n")
    return 1 if result["lost"] or result["changed"] or result["told twice"] else 0


if __name__ == "__main__":
    raise SystemExit(main())
