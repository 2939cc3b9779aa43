"""Are structured answers valid, and what do they cost who asks for none?

First, random JSON Schemas of all kinds are asked for at temperatures 0 and 1, whole and as streams,
64 requests at a time of which every other has no schema; each answer that ended by itself is
validated. Then 32 streams without a schema are measured beside 32 others, which have one in every
other turn.

    python benchmarks/structured.py --schemas 500 --rounds 6 --out results.json
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import random
import statistics
import sys
import time
from collections import Counter
from collections.abc import Awaitable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jsonschema

from rounds import in_turns, table
from served import Place, Server, Stream, Work, about_this_machine, ask, lines

sys.path.insert(0, str(Path(__file__).parents[1]))  # where the generator of schemas is
from tests.grammar.schemas import WHOLE, Schema, schema_of
from tests.grammar.validity import validate

TOGETHER = 64
PLAIN = 48
"""Tokens of one without."""
ROW = 160
"""Tokens of the streams whose gaps are measured."""
LONG: Schema = {
    "type": "array",
    "minItems": ROW,
    "items": {
        "type": "object",
        "properties": {
            "name": {"type": "string", "minLength": 3, "maxLength": 12},
            "kind": {"enum": ["city", "river", "mountain"]},
            "height": {"type": "integer", "minimum": 0, "maximum": 9000},
            "tags": {"type": "array", "items": {"type": "string", "maxLength": 8}, "maxItems": 3},
        },
        "required": ["name", "kind", "height", "tags"],
        "additionalProperties": False,
    },
}
"""Of which no answer ends before it has as many tokens as are measured."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One request for an answer with a schema."""

    number: int
    schema: Schema
    temperature: float
    stream: bool
    room: int
    """Most tokens of the answer."""

    @property
    def kind(self) -> str:
        return WHOLE[self.number % len(WHOLE)].__name__

    def body(self) -> dict[str, Any]:
        return {
            "prompt": f"{self.kind}, as JSON:\n",
            "max_tokens": self.room,
            "temperature": self.temperature,
            "seed": self.number,
            "stream": self.stream,
            "structured_outputs": {"json": self.schema},
        }


def cases(count: int, room: int) -> Iterator[Case]:
    """So many schemas, each asked for in four ways."""
    for number in range(count):
        schema = schema_of(random.Random(number), kind=WHOLE[number % len(WHOLE)])
        for temperature, stream in itertools.product((0.0, 1.0), (False, True)):
            yield Case(
                number=number, schema=schema, temperature=temperature, stream=stream, room=room
            )


async def answer(place: Place, body: dict[str, Any]) -> tuple[str, str]:
    """The text, and why it ended; of an error its message and the status."""
    text, reason, status, last = "", "", "", b""
    async for line in lines(place, "/v1/completions", body):
        status = status or line.split()[1].decode()
        last = line if line.strip() else last
        if line.startswith(b"data: {"):
            (choice,) = json.loads(line[6:]).get("choices") or [{}]
            text += choice.get("text", "")
            reason = choice.get("finish_reason") or reason
    if status != "200":
        return json.loads(last)["error"]["message"], status
    if not body["stream"]:
        (choice,) = json.loads(last)["choices"]
        text, reason = choice["text"], choice["finish_reason"]
    return text, reason


async def outcome(place: Place, case: Case) -> tuple[str, str]:
    """One word for what came of a case, and the text where it is not what it should be."""
    text, reason = await answer(place, case.body())
    if reason == "length":
        return "cut off", ""
    if reason != "stop":
        return "refused" if reason == "400" else "failed", text
    try:
        validate(json.loads(text), case.schema)
    except (ValueError, jsonschema.ValidationError):
        return "invalid", text
    return "valid", ""


async def validity(place: Place, count: int, room: int) -> dict[str, Any]:
    """How many answers of so many schemas are valid, by temperature and by kind."""
    free = asyncio.Semaphore(TOGETHER)

    async def within(work: Awaitable[tuple[str, str]]) -> tuple[str, str]:
        async with free:
            return await work

    def neighbour(number: int) -> dict[str, Any]:
        body = {"prompt": "Once", "max_tokens": PLAIN, "temperature": number % 2, "seed": number}
        return body | {"stream": number % 4 < 2}

    asked = list(cases(count, room))
    works: list[Awaitable[tuple[str, str]]] = []
    for number, case in enumerate(asked):
        works += (outcome(place, case), answer(place, neighbour(number)))
    found = await asyncio.gather(*(within(work) for work in works))
    told = list(zip(asked, found[::2], strict=True))
    return {
        "schemas": count,
        "most tokens": room,
        "answers": dict(Counter(word for word, _ in found[::2])),
        "by temperature": {
            str(temperature): dict(
                Counter(word for case, (word, _) in told if case.temperature == temperature)
            )
            for temperature in (0.0, 1.0)
        },
        "cut off by kind": dict(
            Counter(case.kind for case, (word, _) in told if word == "cut off")
        ),
        "neighbours answered": sum(reason in ("stop", "length") for _, reason in found[1::2]),
        "wrong": [
            {"schema": case.schema, "temperature": case.temperature, "is": word, "text": text}
            for case, (word, text) in told
            if word not in ("valid", "cut off")
        ],
    }


async def gaps(place: Place, *, constrained: bool, seed: int) -> dict[str, float]:
    """Milliseconds between chunks, median, of 32 streams without a schema and of 32 others."""
    draw = random.Random(seed)

    def work(fields: dict[str, object]) -> Work:
        prompt = [draw.randrange(1000, 20_000) for _ in range(32)]
        return Work(prompt=prompt, tokens=ROW, fields=fields | {"temperature": 1, "seed": seed})

    fields: dict[str, object] = {}
    if constrained:
        fields = {"ignore_eos": False, "structured_outputs": {"json": LONG}}
    works = [work(fields if number % 2 else {}) for number in range(TOGETHER)]
    began = time.perf_counter()
    streams = await asyncio.gather(*(ask(place, each) for each in works))
    seconds = time.perf_counter() - began
    return {
        "ITL p50 ms, no schema": _median_gap(streams[::2]),
        "ITL p50 ms, the others": _median_gap(streams[1::2]),
        "tokens/s": sum(len(stream.tokens) for stream in streams) / seconds,
    }


def _median_gap(streams: list[Stream]) -> float:
    """Without the first gaps, in which the others' prompts are computed."""
    return 1000 * statistics.median(gap for stream in streams for gap in stream.gaps[8:])


def measure(place: Place, rounds: int) -> dict[str, list[dict[str, float]]]:
    systems = {"the others without a schema": False, "the others with one": True}
    found: dict[str, list[dict[str, float]]] = {name: [] for name in systems}
    asyncio.run(gaps(place, constrained=True, seed=0))  # the grammar is compiled
    for turn, name in in_turns(list(systems), rounds):
        found[name].append(asyncio.run(gaps(place, constrained=systems[name], seed=turn + 1)))
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--schemas", type=int, default=500)
    parser.add_argument("--room", type=int, default=400, help="most tokens of an answer")
    parser.add_argument("--rounds", type=int, default=6, help="of the gaps; 0 for none")
    parser.add_argument("--port", type=int, default=8137)
    parser.add_argument("--out", type=Path)
    parser.add_argument("flags", nargs="*", help="flags of `headway serve`, after --")
    arguments = parser.parse_args()
    with Server(arguments.port, arguments.flags) as server:
        place = Place(port=server.port)
        valid = asyncio.run(validity(place, arguments.schemas, arguments.room))
        measured = measure(place, arguments.rounds) if arguments.rounds else {}
        chosen = server.chosen()
    print(json.dumps({key: value for key, value in valid.items() if key != "wrong"}, indent=1))
    for each in valid["wrong"]:
        print(json.dumps(each, ensure_ascii=False))
    if measured:
        print(table(measured))
    if arguments.out:
        record = about_this_machine() | {"chosen": chosen, "validity": valid, "gaps": measured}
        arguments.out.write_text(json.dumps(record, indent=1) + "\n")
    return 1 if valid["wrong"] else 0


if __name__ == "__main__":
    sys.exit(main())
