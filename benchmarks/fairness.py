"""One tenant floods, another asks for little: how long does the second one wait for first tokens?

The quiet tenant sends one short request now and then, with an API key of its own: alone, beside the
floods of another key, and beside as many tenants as the flood is wide, who ask for one answer each
at the same moments. What the last two have in common is the length of a step with so many streams
in it; their ratio is what the flood adds. The floods: 64 requests at once, again and again; one
request for 128 continuations; the highest priority, and the most urgent objectives, on each of 64.
Then starvation: how long requests of best effort wait beside interactive ones that come faster than
they can be served.

    python benchmarks/fairness.py --out fairness.json
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import itertools
import json
import shlex
import sys
import time
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import workload
from headway.perf.records.summary import percentile
from rounds import short as shown
from served import MODEL, Place, Server, Stream, Work, about_this_machine, ask

WIDE, WIDEST = 64, 128
QUIET, FLOOD = "quiet", "flood"
PROMPT, LONGEST = 48, 64
"""Tokens of the flood's prompts, and at most of its answers."""
QUIET_PROMPT, QUIET_TOKENS = 32, 4
DRAIN = 60.0
"""Most seconds that answers to the quiet tenant are waited for after the load's end."""
PAUSE = 0.25
"""Seconds until one that was refused asks again."""
PATIENCE = 10
"""Seconds, of `--paced-patience` where starvation is measured."""
Figures = dict[str, float]
Once = Callable[[int], Coroutine[Any, Any, object]]


@dataclass(frozen=True, kw_only=True)
class Flood:
    """Requests that come at once, again as soon as the last of them is answered."""

    name: str
    requests: int
    n: int = 1
    fields: Mapping[str, object] = field(default_factory=dict)
    tenants: bool = False
    """Each request is another tenant's."""
    whole: bool = False
    """No answer is shorter than the longest, as those of continuations are not."""

    @property
    def width(self) -> int:
        return self.requests * self.n


FLOODS = (
    Flood(name="alone", requests=0),
    Flood(name="64 tenants", requests=WIDE, tenants=True),
    Flood(name="64 at once", requests=WIDE),
    Flood(name="64 of priority -10", requests=WIDE, fields={"priority": -10}),
    Flood(
        name="64 most urgent",
        requests=WIDE,
        fields={"slo": {"class": "interactive", "ttft_ms": 1, "tpot_ms": 1}},
    ),
    Flood(name="128 tenants", requests=WIDEST, tenants=True, whole=True),
    Flood(name="n=128", requests=1, n=WIDEST, whole=True),
)
SETTINGS = {
    "objectives": "--slo ttft_p99=2s,tpot_p99=500ms --scheduling-policy priority",
    "32 slots": "--max-num-seqs 32 --scheduling-policy priority",
}


class Requests:
    """Sends requests to one server; those that it refuses are counted."""

    def __init__(self, port: int) -> None:
        self.refused = 0
        self.gaps: list[float] = []
        """Of the flood's streams: the length of its steps."""
        self._port = port
        self._seeds = itertools.count(1)

    async def ask(self, key: str, work: Work) -> Stream | None:
        """None where it was refused."""
        try:
            return await ask(Place(port=self._port, key=key), work)
        except RuntimeError:
            self.refused += 1
            await asyncio.sleep(PAUSE)
            return None

    def work(self, prompt: int, tokens: int) -> Work:
        """Each time another prompt, so that nothing is found in the prefix cache."""
        (made,) = workload.prompts(1, prompt, next(self._seeds))
        return Work(prompt=made, tokens=tokens)

    async def again_and_again(self, flood: Flood, most: int) -> None:
        """Until it is cancelled. Of tenants there are `most` at most, as many as slots."""
        count = min(flood.requests, most) if flood.tenants else flood.requests
        while count:
            lengths = workload.lengths(count)
            works = [
                replace(
                    self.work(PROMPT, LONGEST if flood.whole else min(LONGEST, length)),
                    n=flood.n,
                    fields=flood.fields,
                )
                for length in lengths
            ]
            keys = [f"tenant-{number}" if flood.tenants else FLOOD for number in range(count)]
            async with asyncio.TaskGroup() as group:
                for key, work in zip(keys, works, strict=True):
                    group.create_task(self._one(key, work))

    async def _one(self, key: str, work: Work) -> None:
        stream = await self.ask(key, work)
        if stream is not None and work.n == 1:
            self.gaps += stream.gaps


async def at_times(once: Once, every: float, seconds: float) -> list[object]:
    """Call `once` with a number each `every` seconds, whether or not the one before is done; all
    results, with None for what had not come `DRAIN` seconds after the end."""
    began = time.perf_counter()
    tasks = []
    for number in range(max(1, int(seconds / every))):
        await asyncio.sleep(max(0.0, began + number * every - time.perf_counter()))
        tasks.append(asyncio.create_task(once(number)))
    done, late = await asyncio.wait(tasks, timeout=DRAIN)
    for task in late:
        task.cancel()
    await asyncio.gather(*late, return_exceptions=True)
    return [task.result() if task in done else None for task in tasks]


async def beside(flood: Flood, port: int, slots: int, given: argparse.Namespace) -> Figures:
    """The quiet tenant's times to first tokens beside a flood."""
    requests = Requests(port)
    flooding = asyncio.create_task(requests.again_and_again(flood, slots))
    try:
        await asyncio.sleep(given.begins if flood.requests else 0)

        async def once(_number: int) -> Stream | None:
            return await requests.ask(QUIET, requests.work(QUIET_PROMPT, QUIET_TOKENS))

        streams = await at_times(once, given.every, given.seconds)
    finally:
        flooding.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await flooding
    times = [stream.ttft for stream in streams if isinstance(stream, Stream)]
    figures: Figures = {
        "answered": len(times),
        "not": len(streams) - len(times),
        "flood refused": requests.refused,
    }
    if times:
        figures |= {f"TTFT p{share} ms": 1e3 * percentile(times, share) for share in (50, 90)}
        figures["largest ms"] = 1e3 * max(times)
    if requests.gaps:
        figures["step p50 ms"] = 1e3 * percentile(requests.gaps, 50)
    return figures


def with_ratios(found: Mapping[str, Figures]) -> dict[str, Figures]:
    """Each flood's p50 and p90 over those of as many tenants at once, and over alone."""
    rows = {}
    for name, figures in found.items():
        row = dict(figures)
        for base in (_as_wide(name), "alone"):
            for share in (50, 90):
                key = f"TTFT p{share} ms"
                if base != name and key in figures and key in found.get(base, {}):
                    row[f"p{share} / {'as wide' if base != 'alone' else base}"] = (
                        figures[key] / found[base][key]
                    )
        rows[name] = row
    return rows


def _as_wide(name: str) -> str:
    width = next((flood.width for flood in FLOODS if flood.name == name), 0)
    return f"{width} tenants" if width else "alone"


async def starve(port: int, given: argparse.Namespace) -> Figures:
    """How long requests of best effort waited beside interactive ones without end."""
    requests = Requests(port)

    async def urgent(_number: int) -> None:
        fields = {"slo": {"class": "interactive"}}
        await requests.ask(FLOOD, replace(requests.work(PROMPT, LONGEST // 2), fields=fields))

    async def patient(_number: int) -> tuple[float, Stream | None]:
        fields = {"slo": {"class": "batch"}}
        work = replace(requests.work(QUIET_PROMPT, QUIET_TOKENS), fields=fields)
        return time.perf_counter(), await requests.ask(QUIET, work)

    overload = asyncio.create_task(at_times(urgent, 1 / given.rate, given.starve))
    began = time.perf_counter()
    try:
        await asyncio.sleep(given.begins)
        answers = await at_times(patient, given.each, given.starve - given.begins)
    finally:
        overload.cancel()
        await asyncio.gather(overload, return_exceptions=True)
    end = began + given.starve
    waits, unserved = [], 0
    for asked, stream in (each for each in answers if isinstance(each, tuple)):
        if stream is not None and asked + stream.ttft <= end:
            waits.append(stream.ttft)
        else:
            unserved += 1
            waits.append(end - asked)
    return {
        "best effort": len(waits),
        "still waiting at the end of the overload": unserved,
        "patience s": PATIENCE,
        "wait p50 s": percentile(waits, 50),
        "longest wait s": max(waits),
        "interactive refused": requests.refused,
    }


def table(rows: Mapping[str, Figures]) -> str:
    names = list(dict.fromkeys(name for row in rows.values() for name in row))
    lines = ["| | " + " | ".join(names) + " |", "|" + "---|" * (len(names) + 1)]
    for name, row in rows.items():
        cells = (shown(row[each]) if each in row else "" for each in names)
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def server(port: int, flags: str) -> Server:
    keys = [QUIET, FLOOD, *(f"tenant-{number}" for number in range(WIDEST))]
    return Server(port, [MODEL, *shlex.split(flags), "--api-key", *keys])


def main() -> None:
    parser = argparse.ArgumentParser(description="A tenant that floods beside one that does not.")
    parser.add_argument("--settings", nargs="+", choices=[*SETTINGS], default=[*SETTINGS])
    parser.add_argument("--floods", nargs="+", choices=[flood.name for flood in FLOODS])
    parser.add_argument("--flags", default="", help="of every `headway serve`, in one argument")
    parser.add_argument("--seconds", type=float, default=24, help="of the quiet tenant's requests")
    parser.add_argument("--every", type=float, default=1.5, help="seconds between two of them")
    parser.add_argument("--begins", type=float, default=3, help="seconds that the flood is ahead")
    parser.add_argument("--starve", type=float, default=60, help="seconds of overload; 0: none")
    parser.add_argument("--rate", type=float, default=16, help="interactive requests a second")
    parser.add_argument("--each", type=float, default=4, help="seconds between best effort's")
    parser.add_argument("--overload", choices=("relegate", "shed"), default="relegate")
    parser.add_argument("--port", type=int, default=8143)
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    record: dict[str, Any] = about_this_machine() | {"program": "benchmarks/fairness.py"}

    def keep(name: str, found: Figures | dict[str, Figures]) -> None:
        record[name] = found
        if given.out is not None:
            given.out.write_text(json.dumps(record, indent=1) + "\n")

    for name in given.settings:
        keep(name, floods_on(name, given))
    if given.starve:
        flags = f"--slo ttft_p99=1s,tpot_p99=200ms --paced-patience {PATIENCE}"
        with server(given.port, f"{flags} --paced-overload {given.overload} {given.flags}") as own:
            figures = asyncio.run(starve(own.port, given))
        print(table({"starvation": figures}), flush=True)
        keep("starvation", figures)


def floods_on(name: str, given: argparse.Namespace) -> dict[str, Figures]:
    """All floods, one after the other, on one server with these settings."""
    slots = 30 if name == "32 slots" else WIDEST  # the others are left for the quiet tenant
    chosen: Sequence[Flood] = [
        flood for flood in FLOODS if not given.floods or flood.name in given.floods
    ]
    found: dict[str, Figures] = {}
    with server(given.port, f"{SETTINGS[name]} {given.flags}") as own:
        for flood in chosen:
            found[flood.name] = asyncio.run(beside(flood, own.port, slots, given))
            print(f"{name} | {flood.name}: {found[flood.name]}", file=sys.stderr, flush=True)
    rows = with_ratios(found)
    print(f"\n{name}\n{table(rows)}", flush=True)
    return rows


if __name__ == "__main__":
    main()
