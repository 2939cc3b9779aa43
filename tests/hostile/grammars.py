"""Grammars that would cost too much: each is refused, or its answer takes bounded time."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

COMPLETION = "/v1/completions"
CHAT = "/v1/chat/completions"
MIB = 2**20


def nested(depth: int) -> dict[str, Any]:
    """An object in an object in an object, and so on."""
    schema: dict[str, Any] = {"type": "integer"}
    for _ in range(depth):
        schema = {"type": "object", "properties": {"a": schema}, "required": ["a"]}
    return schema


def doubling(depth: int) -> dict[str, Any]:
    """Each definition has the next one twice: what is written out has 2 ** depth parts."""
    definitions: dict[str, Any] = {
        f"d{n}": {
            "type": "array",
            "prefixItems": [{"$ref": f"#/$defs/d{n + 1}"}] * 2,
            "minItems": 2,
            "items": False,
        }
        for n in range(depth)
    }
    definitions[f"d{depth}"] = {"type": "null"}
    return {"$defs": definitions, "$ref": "#/$defs/d0"}


def schemas(scale: float) -> Iterator[tuple[str, Any]]:
    """Hostile JSON Schemas, the large ones at a share of their size."""
    yield "nested", nested(200)
    yield "doubling", doubling(40)
    yield "of itself alone", {"$ref": "#"}
    loop = {"type": "object", "properties": {"a": {"$ref": "#/$defs/l"}}, "required": ["a"]}
    yield "without an end", {"$defs": {"l": loop}, "$ref": "#/$defs/l"}
    yield (
        "all of each other",
        {
            "$defs": {
                "a": {"allOf": [{"$ref": "#/$defs/b"}]},
                "b": {"allOf": [{"$ref": "#/$defs/a"}]},
            },
            "$ref": "#/$defs/a",
        },
    )
    yield "huge enum", {"enum": [f"value {n:08d}" for n in range(int(700_000 * scale) + 1)]}
    yield "huge text", {"const": "x" * int(10 * MIB * scale)}
    optional = {f"p{n}": {"type": "integer"} for n in range(2000)}
    yield "optional properties", {"properties": optional, "additionalProperties": False}
    yield (
        "patterns of properties",
        {"patternProperties": {f"^p{n}_": {"type": "string"} for n in range(500)}},
    )
    yield "any of many", {"anyOf": [{"const": f"{n % 7}" * (n % 97)} for n in range(3000)]}
    yield "large counts", {"type": "array", "items": {"maxLength": 10**9}, "minItems": 10**9}
    yield "large bounds", {"type": "integer", "minimum": -(10**300), "maximum": 10**300}
    yield "multiple of", {"type": "integer", "multipleOf": 999_983, "minimum": 1}
    for name, pattern in patterns():
        yield f"pattern {name}", {"type": "string", "pattern": pattern}


def patterns() -> Iterator[tuple[str, str]]:
    """Regular expressions with exponentially many states, or steps, or repetitions."""
    yield "states", "(a|b)*a(a|b){40}"
    yield "steps", "^(a+)+(a+)+(a+)+b$"
    yield "repetitions", "((((a{1,99}){1,99}){1,99}){1,99}){1,99}"
    yield "alternatives", "|".join(f"({'ab' * (n % 50)}.*{n})" for n in range(500))
    yield "letters", r"(\w\W\d\D){400}"
    yield "look-around", "(?=(a+)+)b"
    yield "brackets", "(" * 3000 + "a" + ")" * 3000


def fields(scale: float = 1.0) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """A name, a path, and the fields of a body that has a hostile grammar."""
    for name, schema in schemas(scale):
        yield f"schema, {name}", COMPLETION, {"json_schema": schema}
        tool = {"type": "function", "function": {"name": "f", "parameters": schema}}
        yield f"tool, {name}", CHAT, {"tools": [tool], "tool_choice": "required"}
    for name, pattern in patterns():
        yield f"regex, {name}", COMPLETION, {"guided_regex": pattern}
    many = [f"choice {n}" for n in range(int(500_000 * scale) + 5000)]
    yield "choices", COMPLETION, {"guided_choice": many}
    for name, grammar in (
        ("left recursion", 'root ::= root root | "a"'),
        ("rules", "root ::= r0\n" + "".join(f"r{n} ::= r{n + 1} r{n + 1}\n" for n in range(500))),
        ("repetitions", 'root ::= (("a"{1,9999}){1,9999}){1,9999}'),
        ("large", 'root ::= "' + "x" * int(10 * MIB * scale) + '"'),
        ("lark", "start: a*\na: b*\nb: start*\n"),
    ):
        yield f"grammar, {name}", COMPLETION, {"grammar": grammar}
    tags = [{"begin": f"<{n}>", "schema": nested(50), "end": ""} for n in range(2000)]
    tag = json.dumps({"structures": tags, "triggers": ["<"]})
    yield "structural tags", COMPLETION, {"structured_outputs": {"structural_tag": tag}}
