"""Headway's own figures on this machine, in under three minutes: `make bench`.

Starts the server as the README does and measures it over HTTP from the same machine: one stream,
a burst, requests that share a beginning, requests that arrive at random, how many answers are the
same alone as in the batch, the time from nothing to a first token, and memory. Prints a table, and
writes all of it as JSON with `--out`. On a slow machine the burst is smaller and fewer answers are
compared, and the table says so.

    python benchmarks/headline.py --out results.json -- --dtype int8
"""

from __future__ import annotations

import argparse
import asyncio
import json
import time
from dataclasses import dataclass, replace
from pathlib import Path

import workload
from headway.perf.records.summary import percentile
from served import MODEL, Server, Stream, Work, about_this_machine, ask

BUDGET = 170.0  # seconds for everything, once the model is prepared
SLOW = 12.0  # decoded tokens a second of one stream, below which the burst is cut
ALONE_TOKENS = 64  # of each answer that are compared


@dataclass(frozen=True, kw_only=True)
class Row:
    """One figure, and all the numbers behind it."""

    work: str
    shown: str
    figures: dict[str, float]


class Bench:
    """The measurements, one after the other, on one server."""

    def __init__(self, server: Server, model: str, deadline: float) -> None:
        self.server = server
        self.model = model
        self.deadline = deadline
        self.rate = 0.0  # requests a second that the burst was answered at
        self.answers: list[tuple[Work, Stream]] = []

    def together(self, works: list[Work], starts: list[float] | None = None) -> list[Stream]:
        """All at once, or each after so many seconds."""

        async def one(work: Work, start: float) -> Stream:
            await asyncio.sleep(start)
            return await ask(self.server.port, work, self.model)

        async def everything() -> list[Stream]:
            pairs = zip(works, starts or [0.0] * len(works), strict=True)
            return await asyncio.gather(*(one(work, start) for work, start in pairs))

        return asyncio.run(everything())

    def one_stream(self) -> Row:
        """W0."""
        streams = [self.together([work])[0] for work in workload.streams(3, seed=1)]
        decode = percentile([127 / (s.seconds - s.ttft) for s in streams], 50)
        ttft = percentile([s.ttft for s in streams], 50)
        return Row(
            work="W0: one stream, 128 tokens in, 128 out",
            shown=f"{decode:.1f} tokens/s, first token after {1e3 * ttft:.0f} ms",
            figures={"decode_tokens_per_s": decode, "ttft_s": ttft},
        )

    def burst(self, requests: int) -> Row:
        """W1; its answers are kept for `alone`."""
        works = workload.burst(requests, seed=2)
        started = time.perf_counter()
        streams = self.together(works)
        wall = time.perf_counter() - started
        self.answers = list(zip(works, streams, strict=True))
        self.rate = requests / wall
        output = sum(work.tokens for work in works)
        figures = latencies(streams) | {"output_tokens_per_s": output / wall, "wall_s": wall}
        return Row(
            work=f"W1: {requests} requests at once, 128 tokens in, 8-384 out ({output:,})",
            shown=f"{output / wall:,.0f} output tokens/s",
            figures=figures,
        )

    def left(self) -> float:
        """Seconds of the budget."""
        return self.deadline - time.perf_counter()

    def shared(self, requests: int) -> Row:
        """W3."""
        works = workload.shared(requests, seed=3)
        started = time.perf_counter()
        self.together(works)
        wall = time.perf_counter() - started
        total = sum(len(work.prompt) + work.tokens for work in works)
        return Row(
            work=f"W3: {requests} requests that share 384 of 512 tokens, 16 out",
            shown=f"{total / wall:,.0f} tokens/s in and out",
            figures={"total_tokens_per_s": total / wall, "wall_s": wall},
        )

    def arriving(self) -> Row:
        """W2 at half of what the burst was answered at."""
        rate = self.rate / 2
        seconds = max(5.0, min(20.0, self.left() / 4))
        starts = workload.arrivals(rate, seconds)
        streams = self.together(workload.burst(len(starts), seed=4), starts)
        figures = latencies(streams) | {"requests_per_s": rate}
        return Row(
            work=f"W2: {rate:.2f} requests/s (half of W1's) for {seconds:.0f} s",
            shown=f"between tokens {figures['itl_p50_ms']:.0f} / {figures['itl_p99_ms']:.0f} ms, "
            f"to the first {figures['ttft_p50_s']:.2f} / {figures['ttft_p99_s']:.2f} s (p50 / p99)",
            figures=figures,
        )

    def alone(self) -> Row:
        """The burst's first answers again, one at a time and without its cached prefixes."""
        same = compared = 0
        for work, stream in self.answers[:64]:
            if compared and self.left() < 0:
                break
            count = min(work.tokens, ALONE_TOKENS)
            again = self.together([replace(work, tokens=count, salt="alone")])[0]
            same += again.tokens == stream.tokens[:count]
            compared += 1
        return Row(
            work="W1's answers, asked again alone: identical",
            shown=f"{same} of {compared}",
            figures={"same": same, "compared": compared},
        )

    def memory(self) -> Row:
        peak = self.server.peak_memory()
        return Row(
            work="peak memory of all processes",
            shown="unknown" if peak is None else f"{peak / 2**20:,.0f} MiB",
            figures={} if peak is None else {"bytes": peak},
        )


def latencies(streams: list[Stream]) -> dict[str, float]:
    ttft = [stream.ttft for stream in streams]
    gaps = [1e3 * gap for stream in streams for gap in stream.gaps]
    return {
        f"{name}_p{share}{unit}": percentile(values, share)
        for name, values, unit in (("ttft", ttft, "_s"), ("itl", gaps, "_ms"))
        for share in (50, 99)
    }


def start(port: int, model: str, flags: list[str]) -> tuple[Server, Row]:
    """A new server, and how long it took from its start to the first answer."""
    server = Server(port, [model, *flags])
    hello = Work(prompt=workload.prompts(1, 16, seed=9)[0], tokens=1)
    stream = asyncio.run(ask(port, hello, model))
    seconds = stream.asked + stream.seconds - server.started
    row = Row(
        work="from `headway serve` to the first answer",
        shown=f"{seconds:.1f} s",
        figures={"seconds": seconds, "ready_s": server.ready_after},
    )
    return server, row


def measure(port: int, model: str, flags: list[str]) -> tuple[list[Row], dict[str, str]]:
    """All rows, and what the engine chose to run with."""
    with start(port, model, flags)[0]:
        pass  # so that downloading and preparing the model is not measured
    deadline = time.perf_counter() + BUDGET
    rows: list[Row] = []

    def add(row: Row) -> None:
        print(f"{row.work:<66} {row.shown}", flush=True)
        rows.append(row)

    server, first = start(port, model, flags)
    with server:
        add(first)
        bench = Bench(server, model, deadline)
        stream = bench.one_stream()
        add(stream)
        slow = stream.figures["decode_tokens_per_s"] < SLOW
        add(bench.burst(32 if slow else 128))
        add(bench.arriving())
        add(bench.shared(64 if bench.left() > BUDGET / 3 else 16))
        add(bench.alone())
        add(bench.memory())
        return rows, server.chosen()


def main() -> None:
    parser = argparse.ArgumentParser(description="Headway's own figures on this machine.")
    parser.add_argument("--model", default=MODEL, help="as `headway serve` takes it")
    parser.add_argument("--port", type=int, default=8017)
    parser.add_argument("--out", type=Path, help="where the record goes, as JSON")
    parser.add_argument("flags", nargs="*", help="further flags of `headway serve`, after --")
    arguments = parser.parse_args()
    about = about_this_machine()
    print(" ".join(f"{key}={value}" for key, value in about.items()), flush=True)
    rows, chosen = measure(arguments.port, arguments.model, arguments.flags)
    print(" ".join(f"{key}={value}" for key, value in chosen.items()))
    if arguments.out is not None:
        record = about | {
            "program": "benchmarks/headline.py",
            "model": arguments.model,
            "flags": arguments.flags,
            "engine": chosen,
            "rows": {row.work: row.figures for row in rows},
        }
        arguments.out.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
