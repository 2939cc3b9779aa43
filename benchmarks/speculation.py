"""What do drafts gain, and do they ever cost anything?

Two servers on one machine, one with `--no-speculation`, answer the same requests in turns, each
while the other is idle: chats, texts that are written again with another name in them (edit), and
answers that quote a document (retrieval); greedily and at a temperature; one stream and several.
Prompts are in the prefix cache before, so that what is measured is decoding. All tokens of the two
are compared: speculation changes none.

    python benchmarks/speculation.py --rounds 5 --out benchmarks/results/speculation.json
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import random
import re
import statistics
import sys
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from rounds import cell, rotated
from served import Place, Server, Stream, Work, about_this_machine, ask, lines

MODES = ("chat", "edit", "retrieval")
MOST = 16
"""Streams at once."""
SYSTEMS = {"off": ["--no-speculation"], "on": []}
NAMES = ("Anna", "Bruno", "Carla", "David", "Elena", "Felix", "Greta", "Hugo", "Irene", "Jonas")
TOWNS = ("Aldermoor", "Brightwater", "Cold Harbour", "Dunmere", "Eastgate", "Farrow", "Glenholm")
THINGS = ("bridge", "library", "lighthouse", "mill", "theatre", "clock tower", "harbour wall")
TRAITS = ("has been repaired twice", "is open on Sundays", "was painted green", "lost its roof")
SUBJECTS = ("the tides", "bread", "a good walk", "old maps", "bees", "winter", "trains", "tea")
TASKS = ("Explain", "Write a short story about", "Give some advice about", "Describe")
LETTER = """Dear {name},
thank you for your letter of the third of May. We were glad to hear that the work on the {thing} in
{town} has begun, and that {name} will look after it in person. As we agreed, the first half of the
money was sent on Monday; the second half follows once the {thing} has been inspected. Please tell
the people of {town} that the road beside the {thing} stays closed until the end of June. Should
anything be missing, {name}, write to us at once, and we shall send it with the next ship.
"""


@dataclass(frozen=True, kw_only=True)
class Case:
    """What is asked of both servers: one row of the table."""

    mode: str
    temperature: float
    width: int

    def works(self, prompts: Sequence[str], tokens: int) -> list[Work]:
        return [
            Work(
                prompt=[],
                tokens=tokens,
                fields={
                    "prompt": prompt,
                    "temperature": self.temperature,
                    "seed": number,
                    "add_special_tokens": False,
                },
            )
            for number, prompt in enumerate(prompts[: self.width])
        ]


@dataclass(kw_only=True)
class Row:
    """What came of a case, a value for each round."""

    rates: dict[str, list[float]] = field(default_factory=lambda: {name: [] for name in SYSTEMS})
    """Tokens a second of the median stream, by system."""
    slowest: dict[str, list[float]] = field(default_factory=lambda: {name: [] for name in SYSTEMS})
    """The same of the slowest stream."""
    tokens: int = 0
    drafts: int = 0
    accepted: int = 0
    different: int = 0
    """Streams whose tokens were not those without drafts."""

    def ratios(self, figure: dict[str, list[float]]) -> list[float]:
        """With drafts over without, round by round."""
        return [on / off for on, off in zip(figure["on"], figure["off"], strict=True)]


def chat(draw: random.Random) -> str:
    """A question, to be put into the chat template."""
    return f"{draw.choice(TASKS)} {draw.choice(SUBJECTS)} for {draw.choice(NAMES)}."


def edit(draw: random.Random) -> str:
    """Two letters that differ in a name and a place, and the beginning of a third."""
    thing = draw.choice(THINGS)
    people, towns = draw.sample(NAMES, 3), draw.sample(TOWNS, 3)
    letters = [
        f"Letter {number}, to {name} in {town}:\n{LETTER.format(name=name, town=town, thing=thing)}"
        for number, (name, town) in enumerate(zip(people, towns, strict=True), 1)
    ]
    return "\n".join([*letters[:2], letters[2].partition("\n")[0] + "\n"])


def retrieval(draw: random.Random) -> str:
    """A document, and questions that are answered in its words."""
    places = draw.sample(list(itertools.product(THINGS, TOWNS)), 10)
    facts = {}
    for thing, town in places:
        year, builder, home = draw.randint(1700, 1950), draw.choice(NAMES), draw.choice(TOWNS)
        facts[f"the {thing} of {town}"] = (
            f"The {thing} of {town} was built in {year} by {builder} of {home} and "
            f"{draw.choice(TRAITS)}."
        )
    asked = draw.sample(list(facts), 4)
    pairs = [f"Question: What do we know of {each}?\nAnswer: {facts[each]}\n" for each in asked]
    document = "Document:\n" + "\n".join(facts.values()) + "\n\n"
    return document + "\n".join(pairs[:3]) + "\n" + pairs[3].partition("Answer:")[0] + "Answer:"


def texts(mode: str) -> list[str]:
    """As many prompts as there are streams at most, all different."""
    make = {"chat": chat, "edit": edit, "retrieval": retrieval}[mode]
    return [make(random.Random(f"{mode} {number}")) for number in range(MOST)]


async def prompts_of(place: Place, mode: str) -> list[str]:
    """The prompts as they are sent: those of chats in the model's template."""
    found = texts(mode)
    if mode != "chat":
        return found
    answers = [
        await last_line(place, "/apply-template", {"messages": [{"role": "user", "content": each}]})
        for each in found
    ]
    return [json.loads(answer)["prompt"] for answer in answers]


async def last_line(place: Place, path: str, body: dict[str, object]) -> bytes:
    return [line async for line in lines(place, path, body) if line.strip()][-1]


async def at_once(place: Place, works: Sequence[Work]) -> list[Stream]:
    return list(await asyncio.gather(*(ask(place, work) for work in works)))


def counters(port: int) -> tuple[int, int]:
    """Draft tokens of a server so far, and those that were right."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=30) as answer:
        text = answer.read().decode()
    found = [
        re.search(rf"^vllm:spec_decode_num_{what}_tokens_total{{.*}} (\S+)$", text, re.MULTILINE)
        for what in ("draft", "accepted")
    ]
    drafts, accepted = (0 if each is None else int(float(each[1])) for each in found)
    return drafts, accepted


def rate_of(stream: Stream) -> float:
    """Tokens a second after those that came first."""
    return (len(stream.tokens) - len(stream.chunks[0][1])) / sum(stream.gaps)


def measure(servers: dict[str, Server], row: Row, works: list[Work], turn: int) -> None:
    """One round of a case: both servers, one after the other."""
    said: dict[str, list[list[int]]] = {}
    for name in rotated(list(servers), turn):
        port = servers[name].port
        before = counters(port)
        streams = asyncio.run(at_once(Place(port=port), works))
        rates = [rate_of(each) for each in streams]
        row.rates[name].append(statistics.median(rates))
        row.slowest[name].append(min(rates))
        said[name] = [each.tokens for each in streams]
        if name == "on":
            row.drafts += counters(port)[0] - before[0]
            row.accepted += counters(port)[1] - before[1]
            row.tokens += sum(len(each.tokens) for each in streams)
    row.different += sum(a != b for a, b in zip(said["off"], said["on"], strict=True))


def prime(servers: dict[str, Server], modes: Sequence[str]) -> dict[str, list[str]]:
    """The prompts of each mode, computed once by each server, which learns how long steps take."""
    found: dict[str, list[str]] = {}
    for mode in modes:
        for server in servers.values():
            place = Place(port=server.port)
            found[mode] = asyncio.run(prompts_of(place, mode))
            case = Case(mode=mode, temperature=0.0, width=MOST)
            asyncio.run(at_once(place, case.works(found[mode], 2)))
            alone = Case(mode=mode, temperature=0.0, width=1)
            asyncio.run(at_once(place, alone.works(found[mode], 64)))
    return found


def whole_rounds(rounds: int, seconds: float) -> Iterator[int]:
    """The numbers of the rounds, of which none begins that would probably end too late."""
    began, longest = time.perf_counter(), 0.0
    for number in range(rounds):
        start = time.perf_counter()
        if number and start - began + longest > seconds:
            return
        yield number
        longest = max(longest, time.perf_counter() - start)


def shown(rows: dict[Case, Row]) -> str:
    """The table, in Markdown: medians with the range over the rounds."""
    heads = ("mode", "T", "streams", "off", "on", "ratio", "slowest", "tokens a step", "right")
    table = ["| " + " | ".join(heads) + " |", "|" + "---|" * len(heads)]
    for case, row in rows.items():
        steps = row.tokens - row.accepted
        right = f"{100 * row.accepted / row.drafts:.0f} %" if row.drafts else ""
        cells = [
            *(case.mode, f"{case.temperature:g}", str(case.width)),
            *(cell(row.rates[name]) for name in SYSTEMS),
            *(cell(row.ratios(row.rates)), cell(row.ratios(row.slowest))),
            *(f"{row.tokens / steps:.2f}" if steps else "", right),
        ]
        table.append("| " + " | ".join(cells) + " |")
    return "\n".join(table)


def record_of(rows: dict[Case, Row]) -> list[dict[str, object]]:
    return [vars(case) | vars(row) for case, row in rows.items()]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--modes", nargs="+", choices=MODES, default=MODES)
    parser.add_argument("--widths", nargs="+", type=int, default=[1, 2, 4, 8, 16])
    parser.add_argument("--temperatures", nargs="+", type=float, default=[0.0, 0.8])
    parser.add_argument("--tokens", type=int, default=96, help="of each answer")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=360, help="after which none begins")
    parser.add_argument("--config", help="the --speculative-config of the one that speculates")
    parser.add_argument("--port", type=int, default=8137, help="and the next one")
    parser.add_argument("--out", type=Path)
    parser.add_argument("flags", nargs="*", help="flags of `headway serve` for both, after --")
    given = parser.parse_args()
    if not all(1 <= width <= MOST for width in given.widths):
        parser.error(f"widths are from 1 to {MOST}")
    more = {"off": [], "on": ["--speculative-config", given.config] if given.config else []}
    cases = [
        Case(mode=mode, temperature=temperature, width=width)
        for mode, temperature, width in itertools.product(
            given.modes, given.temperatures, given.widths
        )
    ]
    rows = {case: Row() for case in cases}
    with ExitStack() as stack:
        servers = {
            name: stack.enter_context(
                Server(given.port + place, [*given.flags, *SYSTEMS[name], *more[name]])
            )
            for place, name in enumerate(SYSTEMS)
        }
        prompts = prime(servers, given.modes)
        for turn in whole_rounds(given.rounds, given.seconds):
            for number, case in enumerate(cases):
                works = case.works(prompts[case.mode], given.tokens)
                measure(servers, rows[case], works, turn + number)
        chosen = servers["on"].chosen()
    print(shown(rows))
    different = sum(row.different for row in rows.values())
    print(f"\nstreams whose tokens differ: {different}")
    if given.out:
        record = about_this_machine() | {"chosen": chosen, "cases": record_of(rows)}
        given.out.write_text(json.dumps(record, indent=1) + "\n")
    return 1 if different else 0


if __name__ == "__main__":
    sys.exit(main())
