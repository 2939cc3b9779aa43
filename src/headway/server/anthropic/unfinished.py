"""What can be read of JSON that breaks off, as the input of a call does at the length limit."""

from __future__ import annotations

from typing import Any

import msgspec


def finished_part(text: str) -> dict[str, Any]:
    """The object that `text` begins, without what is not complete in it: {} of `{"a": "tex`.

    Text that is not the beginning of an object gives {}. Takes time in proportion to the text.
    """
    found = _object(text)
    if found is None:
        found = _object(_closed(text))
    return found or {}


def _object(text: str) -> dict[str, Any] | None:
    try:
        return msgspec.json.decode(text, type=dict[str, Any])
    except (ValueError, RecursionError):
        return None


def _closed(text: str) -> str:
    """`text` up to where its last complete value ends, with everything closed that is open."""
    closers: list[str] = []
    end = 0
    in_string = escaped = of_value = False
    for place, letter in enumerate(text):
        if in_string:
            in_string = escaped or letter != '"'
            escaped = letter == "\\" and not escaped
            if not in_string and of_value:
                end = place + 1
        elif letter == '"':
            in_string = True
        elif letter in "{[":
            closers.append("}" if letter == "{" else "]")
            of_value, end = letter == "[", place + 1
        elif letter in "}]" and closers:
            closers.pop()
            end = place + 1
        elif letter == ",":
            of_value, end = closers[-1:] == ["]"], place
        elif letter == ":":
            of_value = True
    return text[:end] + "".join(reversed(closers))
