"""Random JSON Schemas of every kind that people ask for, all of which can be kept.

What they allow is bounded, but for numbers' digits, properties of a pattern and `chain`, so that an
answer can be expected to end.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import Any

from hypothesis import strategies as st

Schema = dict[str, Any]

_PATTERNS = (
    "^[a-c]{2,4}$",
    "^(red|green|blue)$",
    r"^\d{3}-[A-Z]{2}$",
    "^[A-Z][a-z]{1,6}( [A-Z][a-z]{1,6})?$",
    r"^#[0-9a-f]{6}$",
    r"^v\d{1,2}\.\d{1,2}(-rc\d)?$",
)
_FORMATS = ("date", "time", "date-time", "uuid", "ipv4")
_ANY = ("boolean", "null", "integer", "number")


@dataclass(frozen=True, slots=True, kw_only=True)
class SchemaMaker:
    """Draws schemas from a random generator; `words` are names and texts that occur in them."""

    random: Random
    words: tuple[str, ...]

    def schema(self, depth: int = 3) -> Schema:
        """A schema of any kind, with others inside it up to so many deep."""
        kinds = LEAVES if depth == 0 or self.random.random() < 0.3 else COMPOUNDS
        return self.random.choice(kinds)(self, depth - 1)

    def names(self, most: int) -> list[str]:
        return self.random.sample(self.words, self.random.randint(0, min(most, len(self.words))))

    def span(self, least: int, most: int) -> tuple[int, int]:
        """Two numbers between these, the lesser one first."""
        first, second = sorted(self.random.randint(least, most) for _ in range(2))
        return first, second

    def value(self) -> Any:
        word, number = self.random.choice(self.words), self.random.randint(-9, 9)
        return self.random.choice((word, number, number / 4, None, True, [word], {word: number}))


Kind = Callable[[SchemaMaker, int], Schema]


def plain(make: SchemaMaker, _: int) -> Schema:
    """One of the types without bounds, or several."""
    if make.random.random() < 0.3:
        return {"type": make.random.sample(_ANY, 2)}
    return {"type": make.random.choice(("boolean", "null"))}


def integer(make: SchemaMaker, _: int) -> Schema:
    least, most = make.span(-200, 2000)
    bounds = ("minimum", "maximum", least, most)
    if make.random.random() < 0.3:
        bounds = ("exclusiveMinimum", "exclusiveMaximum", least - 1, most + 1)
    return {"type": "integer", bounds[0]: bounds[2], bounds[1]: bounds[3]}


def multiple(make: SchemaMaker, _: int) -> Schema:
    step = make.random.choice((2, 5, 10, 25))
    return {"type": "integer", "multipleOf": step, "minimum": 0, "maximum": 20 * step}


def number(make: SchemaMaker, _: int) -> Schema:
    least, most = make.span(-50, 50)
    return {"type": "number", "minimum": least / 4, "maximum": most / 4 + 1}


def text(make: SchemaMaker, _: int) -> Schema:
    least, most = make.span(0, 10)
    return {"type": "string", "minLength": least, "maxLength": most}


def pattern(make: SchemaMaker, _: int) -> Schema:
    return {"type": "string", "pattern": make.random.choice(_PATTERNS)}


def formatted(make: SchemaMaker, _: int) -> Schema:
    return {"type": "string", "format": make.random.choice(_FORMATS)}


def enum(make: SchemaMaker, _: int) -> Schema:
    values = [make.value() for _ in range(make.random.randint(1, 5))]
    return {"enum": list({json.dumps(value): value for value in values}.values())}


def constant(make: SchemaMaker, _: int) -> Schema:
    return {"const": make.value()}


def record(make: SchemaMaker, depth: int) -> Schema:
    """An object of which some properties are optional."""
    properties = {name: make.schema(depth) for name in make.names(5)}
    return {
        "type": "object",
        "properties": properties,
        "required": [name for name in properties if make.random.random() < 0.6],
        "additionalProperties": False,
    }


def open_record(make: SchemaMaker, depth: int) -> Schema:
    """An object whose further properties have names of a pattern."""
    names = [name for name in make.names(2) if not name.startswith("k")]
    return {
        "type": "object",
        "properties": {name: make.schema(depth) for name in names},
        "required": names,
        "patternProperties": {"^k[0-9]$": make.schema(0)},
        "additionalProperties": False,
    }


def sequence(make: SchemaMaker, depth: int) -> Schema:
    least, most = make.span(0, 4)
    return {"type": "array", "items": make.schema(depth), "minItems": least, "maxItems": most}


def tuple_of(make: SchemaMaker, depth: int) -> Schema:
    items = [make.schema(depth) for _ in range(make.random.randint(1, 3))]
    return {"type": "array", "prefixItems": items, "items": False, "minItems": len(items)}


def any_of(make: SchemaMaker, depth: int) -> Schema:
    return {"anyOf": [make.schema(depth) for _ in range(make.random.randint(1, 3))]}


def one_of(make: SchemaMaker, _: int) -> Schema:
    """Of several types, so that no value is of two."""
    some = [text(make, 0), integer(make, 0), {"type": "null"}, {"type": "boolean"}]
    return {"oneOf": make.random.sample(some, make.random.randint(1, 4))}


def all_of(make: SchemaMaker, depth: int) -> Schema:
    """Two that share no property."""
    names = make.names(4)
    parts = [names[: len(names) // 2], names[len(names) // 2 :]]
    return {
        "allOf": [
            {
                "type": "object",
                "properties": {name: make.schema(min(depth, 1)) for name in part},
                "required": part,
            }
            for part in parts
        ],
        "properties": dict.fromkeys(names, True),
        "additionalProperties": False,
    }


def shared(make: SchemaMaker, depth: int) -> Schema:
    """The same by way of a reference, twice."""
    return {
        "$defs": {"part": make.schema(depth)},
        "type": "object",
        "properties": {"p": {"$ref": "#/$defs/part"}, "q": {"$ref": "#/$defs/part"}},
        "required": ["q"],
        "additionalProperties": False,
    }


def chain(make: SchemaMaker, _: int) -> Schema:
    """An object that may have one like itself inside, and so on."""
    return {
        "$defs": {
            "link": {
                "type": "object",
                "properties": {
                    "value": make.schema(0),
                    "next": {"anyOf": [{"type": "null"}, {"$ref": "#/$defs/link"}]},
                },
                "required": ["value"],
                "additionalProperties": False,
            }
        },
        "$ref": "#/$defs/link",
    }


LEAVES: tuple[Kind, ...] = (
    plain,
    integer,
    multiple,
    number,
    text,
    pattern,
    formatted,
    enum,
    constant,
)
COMPOUNDS: tuple[Kind, ...] = (record, record, open_record, sequence, tuple_of, any_of, one_of)
WHOLE: tuple[Kind, ...] = (*LEAVES, *COMPOUNDS, all_of, shared, chain)
"""References lead from the root, so that some kinds can be nowhere else."""
WORDS = (
    *("a", "name", "n1", "x y", "b-c", 'q"', "tab\t", "back\\slash"),
    *("é", "straße", "名前", "ключ", "🙂", "e\u0301"),
)


def schema_of(random: Random, kind: Kind | None = None) -> Schema:
    """A random schema, of a kind if one is given."""
    maker = SchemaMaker(random=random, words=WORDS)
    return (kind or random.choice(WHOLE))(maker, 2)


SCHEMAS: st.SearchStrategy[Schema] = st.builds(
    schema_of, st.randoms(use_true_random=False), st.sampled_from(WHOLE)
)
