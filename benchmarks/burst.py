"""A burst of requests through several policies of one server, side by side.

128 requests arrive at once, each of 128 prompt tokens; the output lengths are exponential with mean
96, clipped to 8..384. Every policy gets the same work; the rounds are interleaved, so that a
machine whose speed drifts treats all alike. Prints a line a run and writes all of them as JSON.

    python benchmarks/burst.py --policies continuous static --rounds 3 --out results.json
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
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import psutil

VOCABULARY = 49152
MODEL = "smollm2-135m-instruct"


@dataclass(frozen=True, kw_only=True)
class Work:
    prompt: list[int]
    tokens: int


@dataclass(frozen=True, kw_only=True)
class Stream:
    """What a client saw: when it asked and when each chunk of so many tokens came."""

    asked: float
    chunks: list[tuple[float, int]]

    @property
    def ttft(self) -> float:
        return self.chunks[0][0] - self.asked

    @property
    def gaps(self) -> list[float]:
        times = [when for when, _ in self.chunks]
        return [later - earlier for earlier, later in itertools.pairwise(times)]


def burst(requests: int, prompt_len: int, seed: int) -> list[Work]:
    """The work: the lengths depend on nothing but the request's number, the prompts on `seed`."""
    lengths, words = random.Random(0), random.Random(seed)
    return [
        Work(
            prompt=[words.randrange(100, VOCABULARY) for _ in range(prompt_len)],
            tokens=min(384, max(8, round(lengths.expovariate(1 / 96)))),
        )
        for _ in range(requests)
    ]


async def ask(port: int, work: Work) -> Stream:
    body = json.dumps(
        {
            "model": MODEL,
            "prompt": work.prompt,
            "max_tokens": work.tokens,
            "temperature": 0,
            "ignore_eos": True,
            "stream": True,
            "return_token_ids": True,
        }
    ).encode()
    asked = time.perf_counter()
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=2**20)
    head = f"POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n"
    writer.write((head + "Content-Type: application/json\r\nConnection: close\r\n\r\n").encode())
    writer.write(body)
    chunks: list[tuple[float, int]] = []
    async for line in reader:
        if line.startswith(b"data: {"):
            choices = json.loads(line[6:])["choices"]
            count = len(choices[0].get("token_ids") or []) if choices else 0
            if count:
                chunks.append((time.perf_counter(), count))
    writer.close()
    if sum(count for _, count in chunks) != work.tokens:
        raise RuntimeError(f"asked for {work.tokens} tokens, got {chunks}")
    return Stream(asked=asked, chunks=chunks)


async def run(port: int, works: list[Work]) -> dict[str, float]:
    started = time.perf_counter()
    streams = await asyncio.gather(*(ask(port, work) for work in works))
    wall = time.perf_counter() - started
    output = sum(work.tokens for work in works)
    ttft = [stream.ttft for stream in streams]
    gaps = [gap for stream in streams for gap in stream.gaps]
    ends = [stream.chunks[-1][0] - stream.asked for stream in streams]
    return {
        "wall_s": wall,
        "output_tokens_per_s": output / wall,
        "ttft_p50_s": percentile(ttft, 50),
        "ttft_p99_s": percentile(ttft, 99),
        "itl_p50_ms": 1e3 * percentile(gaps, 50),
        "itl_p99_ms": 1e3 * percentile(gaps, 99),
        "e2e_p50_s": percentile(ends, 50),
    }


def percentile(values: list[float], share: int) -> float:
    return statistics.quantiles(values, n=100, method="inclusive")[share - 1]


class Server:
    """A `headway serve` process on a port of its own."""

    def __init__(self, policy: str, port: int, extra: list[str]) -> None:
        command = [sys.executable, "-m", "headway", "--log-level", "warning", "serve"]
        self.port = port
        started = time.perf_counter()
        self.process = subprocess.Popen(
            [*command, "--port", str(port), "--policy", policy, *extra], start_new_session=True
        )
        asyncio.run(self._ready())
        self.ready_after = time.perf_counter() - started

    async def _ready(self) -> None:
        deadline = time.perf_counter() + 600
        while time.perf_counter() < deadline and self.process.poll() is None:
            try:
                reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
                writer.write(b"GET /ready HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
                status = await reader.readline()
                writer.close()
                if b" 200 " in status:
                    return
            except OSError:
                pass
            await asyncio.sleep(0.02)
        raise RuntimeError("the server did not become ready")

    def memory(self) -> int:
        """Resident bytes of the server and its engine, shared pages counted once."""
        main = psutil.Process(self.process.pid)
        return sum(p.memory_full_info().uss for p in [main, *main.children(recursive=True)])

    def stop(self) -> None:
        os.killpg(self.process.pid, signal.SIGTERM)
        self.process.wait(timeout=60)


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
            server = Server(policy, arguments.port, arguments.extra)
            try:
                works = burst(arguments.requests, arguments.prompt_len, seed=round_number)
                asyncio.run(ask(server.port, Work(prompt=works[0].prompt[::-1], tokens=8)))
                figures = asyncio.run(run(server.port, works))
                figures["ready_after_s"] = server.ready_after
                figures["memory_mib"] = server.memory() / 2**20
            finally:
                server.stop()
            records.append({"policy": policy, "round": round_number, **figures})
            shown = "  ".join(f"{name} {value:.2f}" for name, value in figures.items())
            print(f"{policy:>11}  {shown}", flush=True)
    if arguments.out is not None:
        scenario = {"requests": arguments.requests, "prompt_len": arguments.prompt_len}
        scenario |= {"flags": arguments.extra, "model": MODEL}
        arguments.out.write_text(json.dumps({"scenario": scenario, "runs": records}, indent=1))


if __name__ == "__main__":
    main()
