"""How many values a body of JSON may hold, counted in its bytes before anything is made of them.

A byte limit alone lets a body hold millions of numbers, texts or objects, and making a Python
object of each takes seconds, in which nobody else is served; some numbers (`1e308`, or those of a
thousand digits) take as long as a thousand others. Counting takes less than a tenth of a second
whatever is sent: nothing is parsed or unescaped, and a body that is small, or has few commas and
brackets, passes at once. Knows neither HTTP nor what fields mean.
"""

from __future__ import annotations

from collections.abc import Hashable
from functools import cache
from typing import Any, cast

import msgspec

from headway.errors import InvalidRequest

SMALL_BODY = 2**16
"""Bytes that take no time to decode, whatever they are."""
FEW_VALUES = 2**10
"""Values that take no time to decode, whatever they are."""
MAX_VALUES = 2**20
"""Values in one body; most of them can only be numbers, such as the token ids of prompts."""
MAX_STRINGS = 2**17
"""Texts in one body, the keys of objects included."""
MAX_CONTAINERS = 2**15
"""Lists and objects in one body."""
MAX_EXPONENTS = 2**13
"""Numbers with an exponent in one body; `true` and `false` count, too."""
MAX_NESTING = 256
"""Lists and objects within each other: as many can be written and shown again from anywhere, far
from the limits of whatever walks through them."""
MAX_DIGITS = 64
"""Characters of a number, in a body with more than `FEW_VALUES` values."""

_NUMBERS = bytes(ord("0") if chr(each) in "0123456789.eE+-" else each for each in range(256))
_NO_BRACKETS = bytes(each for each in range(256) if chr(each) not in "[]{}")


def check_values(data: bytes, kind: type[Any]) -> None:
    """Raise `InvalidRequest` for a body with more values than allowed, or that nests too deeply.

    `kind`, a struct, is what the body should hold; the error names its field that is the largest.
    Exact for valid JSON. Of anything else it may see any number of values, but does not take long.
    """
    few = len(data) <= SMALL_BODY or _values(data) <= FEW_VALUES
    if few and data.count(b"[") + data.count(b"{") <= MAX_NESTING:
        return
    # Backslashes stand within strings alone; without what they escape, every quote is an edge of
    # one. The order matters: a backslash may itself be escaped.
    plain = data.replace(rb"\\", b"").replace(rb"\"", b"")
    structure, excess = b"", f"{MAX_STRINGS:,} texts and keys"
    if few or plain.count(b'"') <= 2 * MAX_STRINGS:
        structure = b"".join(plain.split(b'"')[::2])
        excess = "" if few else _excess(structure)
    if not excess and _nests_deeper(structure, MAX_NESTING):
        raise InvalidRequest(
            f"the body is nested too deeply: at most {MAX_NESTING} lists and objects within each "
            "other"
        )
    if excess:
        field = _largest_field(data, kind)
        where = "the body" if field is None else field
        raise InvalidRequest(f"{where} holds more than {excess}: send less at once", field=field)


def _excess(structure: bytes) -> str:
    """The bound that a body without its strings exceeds, in words; empty for none."""
    containers = structure.count(b"[") + structure.count(b"{")
    if containers > MAX_CONTAINERS:
        return f"{MAX_CONTAINERS:,} lists and objects"
    if containers + structure.count(b",") > MAX_VALUES:
        return f"{MAX_VALUES:,} values"
    if structure.count(b"e") + structure.count(b"E") > MAX_EXPONENTS:
        return f"{MAX_EXPONENTS:,} numbers with exponents, or true and false"
    if b"0" * (MAX_DIGITS + 1) in structure.translate(_NUMBERS):
        return f"{MAX_DIGITS} digits in one number"
    return ""


def _nests_deeper(structure: bytes, most: int) -> bool:
    """Whether JSON without its strings nests deeper; what closes more than it opened is none."""
    depth = 0
    for bracket in structure.translate(None, _NO_BRACKETS):
        depth += 1 if bracket in b"[{" else -1
        if not 0 <= depth <= most:
            return depth > most
    return False


def _values(data: bytes) -> int:
    """At least as many as there are values, and half as many as there are texts and keys."""
    return data.count(b",") + data.count(b"[") + data.count(b"{")


def _largest_field(data: bytes, kind: type[Any]) -> str | None:
    """The known field with the longest value; None where the body is not even an object."""
    try:
        outline = msgspec.json.decode(data, type=_outline(cast(Hashable, kind)))
    except (ValueError, RecursionError):
        return None
    sizes = {name: len(bytes(getattr(outline, name))) for name in outline.__struct_fields__}
    largest = max(sizes, key=lambda name: sizes[name], default=None)
    return largest if largest is not None and sizes[largest] > len(data) // 2 else None


@cache
def _outline(kind: Any) -> Any:
    """Reads each field as the bytes that it has, and passes over what is unknown."""
    names = [field.encode_name for field in msgspec.structs.fields(kind)]
    return msgspec.defstruct("Outline", [(name, msgspec.Raw, msgspec.Raw()) for name in names])
