"""Bodies with too many values are refused by their bytes alone, and the field is named."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headway.errors import InvalidRequest
from headway.server import json_bounds
from headway.server.body import decode
from headway.server.json_bounds import check_values

TEXTS = st.text(alphabet='a,[{":\\e\n\u00e9', max_size=5)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(0, 99) | TEXTS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXTS, inner, max_size=4),
    max_leaves=12,
)


class Fields(msgspec.Struct):
    short: Any = None
    long: Any = None


def counts(value: object) -> dict[str, int]:
    """By definition; an empty list or object counts as one that has a value."""
    found = {"MAX_VALUES": 0, "MAX_STRINGS": 0, "MAX_CONTAINERS": 0}
    if isinstance(value, str):
        found["MAX_STRINGS"] = 1
    if isinstance(value, list | dict):
        found["MAX_CONTAINERS"] = 1
        found["MAX_VALUES"] = max(1, len(value))
        parts = list(value.values()) + list(value) if isinstance(value, dict) else value
        for part in parts:
            for name, number in counts(part).items():
                found[name] += number
    return found


@given(value=VALUES, spaces=st.booleans())
def test_values_are_counted_whatever_texts_hold(value: object, spaces: bool) -> None:
    data = msgspec.json.encode({"long": value})
    data = msgspec.json.format(data, indent=2) if spaces else data
    found = counts({"long": value})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(json_bounds, "SMALL_BODY", 0)
        patch.setattr(json_bounds, "FEW_VALUES", 0)
        for name, number in found.items():
            patch.setattr(json_bounds, name, number)
        check_values(data, Fields)
        for name, number in found.items():
            if number:
                patch.setattr(json_bounds, name, number - 1)
                with pytest.raises(InvalidRequest, match="holds more than"):
                    check_values(data, Fields)
                patch.setattr(json_bounds, name, number)


@pytest.mark.parametrize(
    ("item", "what"),
    [
        (b"1", "1,048,576 values"),
        (b'"x"', "131,072 texts"),
        (b"[]", "32,768 lists"),
        (b"{}", "32,768 lists"),
        (b"1e308", "8,192 numbers with exponents"),
        (b"7" * 65, "64 digits"),
        (b"0." + b"7" * 700 + b"E-300", "8,192 numbers with exponents"),
    ],
)
def test_what_would_take_long_is_refused_with_its_field(item: bytes, what: str) -> None:
    number = 2**20 + 1 if item == b"1" else 140_000 if len(item) < 6 else 9_000
    body = b'{"short":1,"long":[' + b",".join([item] * number) + b"]}"
    with pytest.raises(InvalidRequest, match=f"^long holds more than {what}") as caught:
        decode(body, Fields)
    assert caught.value.field == "long"


def test_what_is_small_or_has_few_values_passes() -> None:
    assert len(decode(b'{"long":[' + b"1e308," * 9_000 + b"1]}", Fields).long) == 9_001
    digits = b"7" * 100_000
    assert decode(b'{"long":[0.' + digits + b"]}", Fields).long == [pytest.approx(0.7777777)]
    prose = b'{"long":"' + b'[one, {two}, \\"three\\"] ' * 200_000 + b'"}'
    assert len(decode(prose, Fields).long) > 10**6


@pytest.mark.parametrize(
    ("body", "field"),
    [
        (b"[" + b"[]," * 40_000 + b"[]]", None),
        (b'{"unknown":[' + b"[]," * 40_000 + b"[]]}", None),
        (b'{"long":' + b"[" * 70_000, None),
        (b'{"long":' + b"[" * 70_000 + b"]" * 70_000 + b"}", None),
    ],
)
def test_without_a_known_field_it_is_the_body(body: bytes, field: str | None) -> None:
    with pytest.raises(InvalidRequest, match="the body holds more than") as caught:
        decode(body, Fields)
    assert caught.value.field is field


def nested(depth: int, opening: str = "[", closing: str = "]") -> bytes:
    """A body of that many lists or objects within each other, itself one of them."""
    inner = opening * (depth - 1) + "1" + closing * (depth - 1)
    return ('{"short": "]}\\\\\\"}", "long": ' + inner + "}").encode()


@pytest.mark.parametrize(("opening", "closing"), [("[", "]"), ('{"a":', "}")])
@pytest.mark.parametrize("more", ["", "x" * json_bounds.SMALL_BODY])
def test_nesting_is_bounded_in_bodies_of_any_size(opening: str, closing: str, more: str) -> None:
    most = json_bounds.MAX_NESTING
    for depth in (most, most + 1):
        data = nested(depth, opening, closing).replace(b"1", f'"{more}"'.encode(), 1)
        if depth <= most:
            check_values(data, Fields)
        else:
            with pytest.raises(InvalidRequest, match="nested too deeply"):
                check_values(data, Fields)


def test_brackets_in_texts_and_beside_each_other_are_no_nesting() -> None:
    check_values(msgspec.json.encode({"long": "[{" * 5000, "short": [[{}]] * 5000}), Fields)
