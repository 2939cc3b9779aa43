"""Random JSON Schemas, of what people ask for: objects, lists, choices, bounds, references."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

Schema = dict[str, Any]

_NAMES = st.sampled_from(("a", "name", "n1", "x y", "b-c"))


def _integers() -> st.SearchStrategy[Schema]:
    return st.tuples(st.integers(-50, 50), st.integers(0, 60)).map(
        lambda found: {"type": "integer", "minimum": found[0], "maximum": found[0] + found[1]}
    )


def _texts() -> st.SearchStrategy[Schema]:
    return st.tuples(st.integers(0, 3), st.integers(0, 5)).map(
        lambda found: {"type": "string", "minLength": found[0], "maxLength": sum(found)}
    )


_LEAVES: st.SearchStrategy[Schema] = st.one_of(
    st.sampled_from(
        (
            {"type": "boolean"},
            {"type": "null"},
            {"type": "number", "minimum": 0, "maximum": 100},
            {"type": "string", "pattern": "^[a-c]{2,4}$"},
            {"type": "string", "format": "date"},
            {"type": ["boolean", "null"]},
            {"const": {"k": [1, "v"]}},
        )
    ),
    _integers(),
    _texts(),
    st.lists(st.sampled_from((1, 2.5, "one", None, True)), min_size=1, max_size=4, unique=True).map(
        lambda values: {"enum": values}
    ),
)


def _objects(inner: st.SearchStrategy[Schema]) -> st.SearchStrategy[Schema]:
    return st.tuples(st.dictionaries(_NAMES, inner, max_size=4), st.integers(0, 15)).map(
        lambda found: {
            "type": "object",
            "properties": found[0],
            "required": [name for n, name in enumerate(found[0]) if found[1] >> n & 1],
            "additionalProperties": False,
        }
    )


def _lists(inner: st.SearchStrategy[Schema]) -> st.SearchStrategy[Schema]:
    return st.tuples(inner, st.integers(0, 2), st.integers(0, 2)).map(
        lambda found: {
            "type": "array",
            "items": found[0],
            "minItems": found[1],
            "maxItems": found[1] + found[2],
        }
    )


def _either(inner: st.SearchStrategy[Schema]) -> st.SearchStrategy[Schema]:
    return st.lists(inner, min_size=1, max_size=3).map(lambda found: {"anyOf": found})


def _named(schema: Schema) -> Schema:
    """The same by way of a reference, twice."""
    return {
        "$defs": {"part": schema},
        "type": "object",
        "properties": {"p": {"$ref": "#/$defs/part"}, "q": {"$ref": "#/$defs/part"}},
        "required": ["q"],
        "additionalProperties": False,
    }


SCHEMAS: st.SearchStrategy[Schema] = st.recursive(
    _LEAVES,
    lambda inner: _objects(inner) | _lists(inner) | _either(inner),
    max_leaves=6,
).flatmap(lambda schema: st.sampled_from((schema, _named(schema))))
