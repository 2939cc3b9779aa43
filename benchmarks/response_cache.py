"""What does a response cache give where some questions come again and again?

Of the requests, a share is drawn from a few questions by Zipf's law, and the rest are new; clients
ask one after the other, as many at once as are told. The same requests are asked of one server with
its cache and, by `Cache-Control: no-store`, without, in turns and each turn with other questions.
Then hits alone, one at a time, and equal requests all at once. Every answer of the first kind is
compared with the computed one.

    python benchmarks/response_cache.py --rounds 3 --out results.json -- --dtype int8
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random

from served import MODEL, Place, Server, about_this_machine, lines

CACHE = "--response-cache"
PATH = "/v1/completions"
PROMPT, TOKENS = 64, 64
WITHOUT = {"Cache-Control": "no-store"}
HITS, EQUAL = 200, 64


@dataclass(frozen=True, kw_only=True)
class Answered:
    """One request: what came, after how long, and how the cache answered it."""

    prompt: tuple[int, ...]
    tokens: tuple[int, ...]
    seconds: float
    outcome: str


async def ask(place: Place, prompt: Sequence[int]) -> Answered:
    """A whole answer. Raises RuntimeError where there is none."""
    body = {
        "model": MODEL,
        "prompt": list(prompt),
        "max_tokens": TOKENS,
        "temperature": 0,
        "ignore_eos": True,
        "return_token_ids": True,
    }
    began = time.perf_counter()
    outcome, last = "none", b""
    async for line in lines(place, PATH, body):
        name, _, value = line.partition(b":")
        if name.lower() == b"x-headway-cache":
            outcome = value.strip().decode()
        last = line
    seconds = time.perf_counter() - began
    choices = json.loads(last).get("choices") if last.startswith(b"{") else None
    if not choices:
        raise RuntimeError(f"no answer: {last[:300]!r}")
    return Answered(
        prompt=tuple(prompt),
        tokens=tuple(choices[0]["token_ids"]),
        seconds=seconds,
        outcome=outcome,
    )


def questions(random: Random, count: int) -> list[list[int]]:
    return [[random.randrange(1000, 40_000) for _ in range(PROMPT)] for _ in range(count)]


def load(seed: int, requests: int, share: float, known: int) -> list[list[int]]:
    """Prompts, of which a share are among so many, the k-th of them 1/k as often as the first."""
    random = Random(seed)
    often = questions(random, known)
    weights = [1 / (place + 1) for place in range(known)]
    return [
        random.choices(often, weights)[0] if random.random() < share else questions(random, 1)[0]
        for _ in range(requests)
    ]


async def closed_loop(place: Place, prompts: list[list[int]], clients: int) -> list[Answered]:
    left = iter(prompts)
    found: list[Answered] = []

    async def client() -> None:
        for prompt in left:
            answered = await ask(place, prompt)
            found.append(answered)

    await asyncio.gather(*(client() for _ in range(clients)))
    return found


def turn(place: Place, prompts: list[list[int]], clients: int) -> dict[str, object]:
    began = time.perf_counter()
    found = asyncio.run(closed_loop(place, prompts, clients))
    seconds = time.perf_counter() - began
    by_outcome = Counter(each.outcome for each in found)
    hits = [each.seconds for each in found if each.outcome == "hit"]
    return {
        "requests/s": len(found) / seconds,
        "p50 s": statistics.median(each.seconds for each in found),
        "p50 of hits s": statistics.median(hits) if hits else None,
        "outcomes": dict(by_outcome),
        "answers": {each.prompt: each.tokens for each in found},
    }


def hits_alone(port: int, seed: int) -> list[float]:
    """Seconds of hits on an idle server."""
    (prompt,) = questions(Random(seed), 1)

    async def measure() -> list[float]:
        await ask(Place(port=port), prompt)
        return [(await ask(Place(port=port), prompt)).seconds for _ in range(HITS)]

    return asyncio.run(measure())


def all_at_once(place: Place, seed: int) -> dict[str, object]:
    """Equal requests that come at once."""
    (prompt,) = questions(Random(seed), 1)

    async def burst() -> list[Answered]:
        return await asyncio.gather(*(ask(place, prompt) for _ in range(EQUAL)))

    began = time.perf_counter()
    found = asyncio.run(burst())
    return {
        "seconds": time.perf_counter() - began,
        "outcomes": dict(Counter(each.outcome for each in found)),
        "different answers": len({each.tokens for each in found}),
    }


def measure(arguments: argparse.Namespace) -> dict[str, object]:
    rounds: list[dict[str, object]] = []
    with Server(arguments.port, [CACHE, "64MiB", *arguments.flags]) as server:
        places = {
            "with": Place(port=server.port),
            "without": Place(port=server.port, headers=WITHOUT),
        }
        asyncio.run(closed_loop(places["without"], load(0, 32, 0, 1), 32))  # warm
        for number in range(arguments.rounds):
            prompts = load(number + 1, arguments.requests, arguments.share, arguments.known)
            names = ("with", "without") if number % 2 == 0 else ("without", "with")
            found = {name: turn(places[name], prompts, arguments.clients) for name in names}
            cached, computed = (found[name].pop("answers") for name in ("with", "without"))
            rounds.append({**found, "equal answers": cached == computed})
            print(json.dumps(rounds[-1]))
        return {
            "rounds": rounds,
            "hits alone s": sorted(hits_alone(server.port, 10_001)),
            "equal requests at once": {
                name: all_at_once(place, 10_002) for name, place in places.items()
            },
            "chosen": server.chosen(),
        }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--requests", type=int, default=600)
    parser.add_argument("--clients", type=int, default=32)
    parser.add_argument("--share", type=float, default=0.6, help="of requests, those that repeat")
    parser.add_argument("--known", type=int, default=20, help="questions that come again")
    parser.add_argument("--port", type=int, default=8141)
    parser.add_argument("--out", type=Path)
    parser.add_argument("flags", nargs="*", help="flags of `headway serve`, after --")
    arguments = parser.parse_args()
    found = measure(arguments)
    if arguments.out:
        arguments.out.write_text(json.dumps(about_this_machine() | found, indent=1) + "\n")
    hits = found["hits alone s"]
    assert isinstance(hits, list)
    print(f"a hit alone: p50 {statistics.median(hits) * 1e3:.2f} ms, most {hits[-1] * 1e3:.2f} ms")
    print(json.dumps(found["equal requests at once"]))


if __name__ == "__main__":
    main()
