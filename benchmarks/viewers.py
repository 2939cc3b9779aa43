"""What does it cost that somebody watches the page?

One server answers the same burst of requests in turns: while nobody watches, and while some viewers
read the Live view's events (`GET /live`), which they only count, so that what is measured is the
server's part. A pair of turns gives one ratio.

    python benchmarks/viewers.py --rounds 10 --out benchmarks/results/viewers.json
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import time
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING

from rounds import cell, in_turns
from served import Place, Server, Work, about_this_machine, ask

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

PROMPT = 64
SOCKET_BYTES = 2**16


class Viewer:
    """Reads the events of `/live` as fast as they come."""

    def __init__(self) -> None:
        self.bytes = 0

    @asynccontextmanager
    async def watching(self, place: Place) -> AsyncIterator[None]:
        reader, writer = await asyncio.open_connection(place.host, place.port)
        head = f"GET /live HTTP/1.1\r\nHost: {place.host}\r\nConnection: close\r\n\r\n"
        writer.write(head.encode())
        status = await reader.readline()
        if b" 200 " not in status:
            raise RuntimeError(f"the Live view is not to be had: {status!r}")
        reading = asyncio.create_task(self._read(reader))
        try:
            yield
        finally:
            reading.cancel()
            await asyncio.gather(reading, return_exceptions=True)
            writer.close()

    async def _read(self, reader: asyncio.StreamReader) -> None:
        while data := await reader.read(SOCKET_BYTES):
            self.bytes += len(data)


async def burst(place: Place, works: list[Work], viewers: int) -> dict[str, float]:
    """Tokens a second of all requests at once, and what a viewer got meanwhile."""
    watching = [Viewer() for _ in range(viewers)]
    async with AsyncExitStack() as stack:
        for viewer in watching:
            await stack.enter_async_context(viewer.watching(place))
        began = time.perf_counter()
        streams = await asyncio.gather(*(ask(place, work) for work in works))
        seconds = time.perf_counter() - began
    found = {"tokens/s": sum(len(each.tokens) for each in streams) / seconds}
    if watching:
        found["kB/s a viewer"] = watching[0].bytes / 1000 / seconds
    return found


def works(seed: int, requests: int, tokens: int, *, salt: str) -> list[Work]:
    """The same for both turns of a round but for the salt, which keeps their prefixes apart;
    answers of half to all of `tokens`.
    """
    random = Random(seed)
    return [
        Work(
            prompt=[random.randrange(1000, 40_000) for _ in range(PROMPT)],
            tokens=random.randint(tokens // 2, tokens),
            salt=salt,
        )
        for _ in range(requests)
    ]


def measure(arguments: argparse.Namespace) -> dict[str, object]:
    rounds: list[dict[int, dict[str, float]]] = []
    with Server(arguments.port, arguments.flags) as server:
        place = Place(port=server.port)
        size = (arguments.requests, arguments.tokens)
        asyncio.run(burst(place, works(0, *size, salt="warm"), 0))
        for number, viewers in in_turns((0, arguments.viewers), arguments.rounds):
            if len(rounds) == number:
                rounds.append({})
            asked = works(number + 1, *size, salt=f"{number} {viewers}")
            rounds[-1][viewers] = asyncio.run(burst(place, asked, viewers))
            print(number, viewers, json.dumps(rounds[-1][viewers]), flush=True)
        return {"rounds": rounds, "chosen": server.chosen()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--viewers", type=int, default=2)
    parser.add_argument("--requests", type=int, default=64)
    parser.add_argument("--tokens", type=int, default=96, help="of the longest answers")
    parser.add_argument("--port", type=int, default=8143)
    parser.add_argument("--out", type=Path)
    parser.add_argument("flags", nargs="*", help="flags of `headway serve`, after --")
    arguments = parser.parse_args()
    found = measure(arguments)
    pairs = found["rounds"]
    assert isinstance(pairs, list)
    ratios = [pair[arguments.viewers]["tokens/s"] / pair[0]["tokens/s"] for pair in pairs]
    found["watched by unwatched"] = {"median": statistics.median(ratios), "of each pair": ratios}
    if arguments.out:
        arguments.out.write_text(json.dumps(about_this_machine() | found, indent=1) + "\n")
    print(f"tokens/s with {arguments.viewers} viewers by those without: {cell(ratios)}")


if __name__ == "__main__":
    main()
