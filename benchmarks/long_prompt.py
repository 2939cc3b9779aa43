"""One prompt as long as the context arrives among steady streams: how long do these stand still?

Each system is started as its user would, 32 streams decode, and the long prompt is sent. It counts
the gaps between pieces that the streams see before and while it is computed, how many tokens they
get, and when the long prompt's first token comes: "at least" where that was not waited for any
longer. Other servers that speak the OpenAI API take part by their address; what they write is
measured by the same client on the same prompts.

    python benchmarks/long_prompt.py --out long_prompt.json --url vllm=127.0.0.1:8123 --model m
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import itertools
import json
import shlex
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import workload
from headway.perf.records.summary import percentile
from rounds import in_turns, table
from served import MODEL, Place, Server, Work, about_this_machine, ask

PRIMER = 1024
"""Prompt tokens of a request before the streams: while it is computed they all arrive, and so begin
together, under a policy that starts whole batches too."""
PROMPT = 16
"""Prompt tokens of a stream."""
TOKENS = 2048
"""Of a stream, more than are waited for."""
AFTER = 1.0
"""Seconds that are watched beyond the long prompt's first token, for gaps that go on."""
BEGIN = 60.0
"""Most seconds until all streams have begun."""
Chunks = list[tuple[float, list[int]]]
Figures = dict[str, float]


@dataclass(frozen=True, kw_only=True)
class System:
    """A way of serving."""

    name: str
    flags: str = ""
    """Of `headway serve`."""
    place: Place | None = None
    """Where it listens already; it is not started then."""
    waits: float
    """Most seconds that the long prompt's first token is waited for."""


@dataclass(frozen=True, kw_only=True)
class Load:
    streams: int
    prompt: int
    """Tokens of the long prompt."""
    before: float
    """Seconds of steady streams before it comes."""


def systems_of(given: argparse.Namespace) -> list[System]:
    """Ours, and those whose address was given. A static batch ends before the next one begins, so
    that nothing is to be learned from waiting for it."""
    flags = {
        f"paced, {given.slo}": f"--policy paced --slo {given.slo}",
        "paced": "--policy paced",
        "continuous": "--policy continuous",
        "continuous, budget 512": "--policy continuous --max-num-batched-tokens 512",
        "static": "--policy static",
    }
    own = [
        System(
            name=name,
            flags=f"{each} {given.flags}",
            waits=min(given.waits, given.before + 10) if name == "static" else given.waits,
        )
        for name, each in flags.items()
        if given.systems is None or any(name.startswith(asked) for asked in given.systems)
    ]
    return own + [System(name=name, place=place, waits=given.waits) for name, place in given.url]


def measure(system: System, load: Load, given: argparse.Namespace, seed: int) -> Figures:
    """One turn of one system; started and stopped here, unless it runs already."""
    if system.place is not None:
        return asyncio.run(watch(system.place, given.model, load, system.waits, seed))
    with Server(given.port, [MODEL, *shlex.split(system.flags)]) as server:
        place = Place(port=server.port)
        return asyncio.run(watch(place, MODEL, load, system.waits, seed))


async def watch(place: Place, model: str, load: Load, waits: float, seed: int) -> Figures:
    """Streams, then the long prompt among them; all are left as soon as enough was seen."""
    short = workload.prompts(load.streams, PROMPT, 2 * seed + 1)
    primer, long = (
        Work(prompt=prompt, tokens=1)
        for size in (PRIMER, load.prompt)
        for prompt in workload.prompts(1, size, 2 * seed + 2)
    )
    seen: list[Chunks] = [[] for _ in short]
    first = asyncio.create_task(ask(place, primer, model))
    await asyncio.sleep(0.05)
    streams = [
        asyncio.create_task(ask(place, Work(prompt=prompt, tokens=TOKENS), model, chunks))
        for prompt, chunks in zip(short, seen, strict=True)
    ]
    try:
        await first
        await _all_begun(seen, streams)
        steady = time.perf_counter()
        await asyncio.sleep(load.before)
        arrived = time.perf_counter()
        ttft = await _first_token(place, model, long, waits)
        end = time.perf_counter()
        await asyncio.sleep(AFTER)
        _none_has_ended(streams)
        return figures_of(seen, steady, arrived, end, ttft)
    finally:
        await _left(streams)


async def _all_begun(seen: Sequence[Chunks], streams: Sequence[asyncio.Task[object]]) -> None:
    deadline = time.perf_counter() + BEGIN
    while not all(seen):
        _none_has_ended(streams)
        if time.perf_counter() > deadline:
            begun = sum(bool(chunks) for chunks in seen)
            raise RuntimeError(f"{begun} of {len(seen)} streams have begun after {BEGIN:g} s")
        await asyncio.sleep(0.02)


def _none_has_ended(streams: Sequence[asyncio.Task[object]]) -> None:
    """Raises what ended a stream, or RuntimeError where they were too short."""
    for stream in streams:
        if stream.done():
            stream.result()
            raise RuntimeError(f"a stream came to its end, of {TOKENS} tokens: wait for less")


async def _first_token(place: Place, model: str, long: Work, waits: float) -> float | None:
    """Seconds to it; None where it did not come within `waits`."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(waits):
            return (await ask(place, long, model)).ttft
    return None


async def _left(streams: Sequence[asyncio.Task[object]]) -> None:
    for stream in streams:
        stream.cancel()
    await asyncio.gather(*streams, return_exceptions=True)


def figures_of(
    seen: Sequence[Chunks], steady: float, arrived: float, end: float, ttft: float | None
) -> Figures:
    """What the streams saw from `steady` on, before and after `arrived`, until `end`.

    A gap counts where it ends, and the last one, which has not ended, as it is.
    """
    before, during, tokens = [], [], 0
    for chunks in seen:
        times = [when for when, _ in chunks]
        tokens += sum(max(1, len(ids)) for when, ids in chunks if arrived < when <= end)
        for earlier, later in itertools.pairwise([*times, max(end, times[-1])]):
            if steady <= earlier and later <= arrived:
                before.append(later - earlier)
            elif later > arrived and earlier < end:
                during.append(later - earlier)
    came = {"TTFT s": ttft} if ttft is not None else {"TTFT s, at least": end - arrived}
    return came | {
        "largest gap ms": 1e3 * max(during),
        "gaps p99 ms": 1e3 * percentile(during, 99),
        "gaps p50 ms": 1e3 * percentile(during, 50),
        "before: largest ms": 1e3 * max(before),
        "before: p99 ms": 1e3 * percentile(before, 99),
        "before: p50 ms": 1e3 * percentile(before, 50),
        "streams' tokens/s meanwhile": tokens / (end - arrived),
    }


def address(text: str) -> tuple[str, Place]:
    """`NAME=http://HOST:PORT`; scheme and path are nothing to us."""
    name, _, url = text.partition("=")
    host, _, port = url.rpartition("//")[2].partition("/")[0].rpartition(":")
    if not name or not host or not port.isdigit():
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=http://HOST:PORT")
    return name, Place(host=host, port=int(port))


def main() -> None:
    parser = argparse.ArgumentParser(description="A long prompt among streams.")
    parser.add_argument("--slo", default="ttft_p99=2s,tpot_p99=250ms", help="of the first system")
    parser.add_argument("--systems", nargs="*", help="only those of ours that begin so, or none")
    parser.add_argument("--url", nargs="+", type=address, default=[], help="NAME=http://HOST:PORT")
    parser.add_argument("--model", default=MODEL, help="as the servers of --url call it")
    parser.add_argument("--flags", default="", help="of every `headway serve`, in one argument")
    parser.add_argument("--streams", type=int, default=32)
    parser.add_argument("--prompt", type=int, default=8064, help="tokens of the long one")
    parser.add_argument("--before", type=float, default=4, help="seconds of streams alone")
    parser.add_argument("--waits", type=float, default=60, help="most seconds for the long one")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument(
        "--minutes", type=float, default=8, help="no round begins that would end later"
    )
    parser.add_argument("--port", type=int, default=8141)
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    if given.before < 1:
        parser.error("--before must be 1 or more, for gaps to be seen in it")
    load = Load(streams=given.streams, prompt=given.prompt, before=given.before)
    systems = systems_of(given)
    found: dict[str, list[Figures]] = {system.name: [] for system in systems}
    failed: list[str] = []
    record = about_this_machine() | {"program": "benchmarks/long_prompt.py", "load": vars_of(load)}
    record["systems"] = {system.name: system.flags for system in systems}
    for number, system in in_turns(systems, given.rounds, seconds=60 * given.minutes):
        try:
            figures = measure(system, load, given, number)
        except (RuntimeError, OSError) as error:
            failed.append(f"round {number + 1} | {system.name}: {error}"[-2000:])
            print(f"FAILED {failed[-1]}", flush=True)
            continue
        found[system.name].append(figures)
        shown = ", ".join(f"{name} {value:.3g}" for name, value in figures.items())
        print(f"round {number + 1} | {system.name}: {shown}", flush=True)
        if given.out is not None:
            whole = record | {"runs": found, "failed": failed}
            given.out.write_text(json.dumps(whole, indent=1) + "\n")
    print(table(found))


def vars_of(load: Load) -> dict[str, float]:
    return {"streams": load.streams, "prompt": load.prompt, "before s": load.before}


if __name__ == "__main__":
    main()
