"""The burst of `headline.py` on a machine of its own and beside a process that burns one core.

In turns, so that both meet the same machine: throughput beside the neighbour should fall by no more
than the core it takes.

    python benchmarks/neighbour.py --rounds 3 --out results.json -- --dtype int8
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import subprocess
import sys
import time
from pathlib import Path

import workload
from served import Server, about_this_machine, ask

REQUESTS = 128
BURN = "while True: pass"


async def burst(port: int, seed: int) -> float:
    """Output tokens a second of requests that come all at once."""
    works = workload.burst(REQUESTS, seed)
    began = time.perf_counter()
    streams = await asyncio.gather(*(ask(port, work) for work in works))
    return sum(len(stream.tokens) for stream in streams) / (time.perf_counter() - began)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--port", type=int, default=8131)
    parser.add_argument("--out", type=Path)
    parser.add_argument("flags", nargs="*", help="flags of `headway serve`, after --")
    arguments = parser.parse_args()
    found: dict[str, list[float]] = {"alone": [], "beside a busy core": []}
    with Server(arguments.port, arguments.flags) as server:
        asyncio.run(burst(server.port, 0))  # memory of the KV cache is touched for the first time
        for turn in range(arguments.rounds):
            found["alone"].append(asyncio.run(burst(server.port, 2 * turn + 1)))
            neighbour = subprocess.Popen([sys.executable, "-c", BURN])
            try:
                found["beside a busy core"].append(asyncio.run(burst(server.port, 2 * turn + 2)))
            finally:
                neighbour.kill()
                neighbour.wait()
        chosen = server.chosen()
    for name, rates in found.items():
        spread = f"{min(rates):.0f}-{max(rates):.0f}"
        print(f"{name}: {statistics.median(rates):.0f} output tokens/s ({spread})")
    alone, beside = (statistics.median(rates) for rates in found.values())
    print(f"ratio {beside / alone:.2f}")
    if arguments.out:
        record = about_this_machine() | {"chosen": chosen, "output tokens/s": found}
        arguments.out.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
