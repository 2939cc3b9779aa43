"""A burst of requests through several policies of one server, side by side.

128 requests arrive at once, each of 128 prompt tokens; the output lengths are exponential with mean
96, clipped to 8..384. Every policy gets the same work; the rounds are interleaved, so that a
machine whose speed drifts treats all alike. Prints a line a run and writes all of them as JSON.

    python benchmarks/burst.py --policies continuous static --rounds 3 --out results.json
"""

from __future__ import annotations

import argparse
import asyncio
import json
import time
from pathlib import Path

from served import MODEL, Server, Work, ask, percentile
from workload import burst


async def run(port: int, works: list[Work]) -> dict[str, float]:
    started = time.perf_counter()
    streams = await asyncio.gather(*(ask(port, work) for work in works))
    wall = time.perf_counter() - started
    output = sum(work.tokens for work in works)
    ttft = [stream.ttft for stream in streams]
    gaps = [gap for stream in streams for gap in stream.gaps]
    ends = [stream.seconds for stream in streams]
    return {
        "wall_s": wall,
        "output_tokens_per_s": output / wall,
        "ttft_p50_s": percentile(ttft, 50),
        "ttft_p99_s": percentile(ttft, 99),
        "itl_p50_ms": 1e3 * percentile(gaps, 50),
        "itl_p99_ms": 1e3 * percentile(gaps, 99),
        "e2e_p50_s": percentile(ends, 50),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--policies", nargs="+", default=["continuous", "static", "sequential"])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--requests", type=int, default=128)
    parser.add_argument("--prompt-len", type=int, default=128)
    parser.add_argument("--port", type=int, default=8017)
    parser.add_argument("--out", type=Path, default=None)
    parser.add_argument("extra", nargs="*", help="further flags of `headway serve`, after --")
    arguments = parser.parse_args()
    records: list[dict[str, object]] = []
    for round_number in range(arguments.rounds):
        for policy in arguments.policies:
            with Server(arguments.port, ["--policy", policy, *arguments.extra]) as server:
                works = burst(arguments.requests, round_number, arguments.prompt_len)
                asyncio.run(ask(server.port, Work(prompt=works[0].prompt[::-1], tokens=8)))
                figures = asyncio.run(run(server.port, works))
                figures["ready_after_s"] = server.ready_after
                figures["peak_memory_mib"] = (server.peak_memory() or 0) / 2**20
            records.append({"policy": policy, "round": round_number, **figures})
            shown = "  ".join(f"{name} {value:.2f}" for name, value in figures.items())
            print(f"{policy:>11}  {shown}", flush=True)
    if arguments.out is not None:
        scenario = {"requests": arguments.requests, "prompt_len": arguments.prompt_len}
        scenario |= {"flags": arguments.extra, "model": MODEL}
        arguments.out.write_text(json.dumps({"scenario": scenario, "runs": records}, indent=1))


if __name__ == "__main__":
    main()
