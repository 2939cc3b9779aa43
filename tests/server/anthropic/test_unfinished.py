from __future__ import annotations

import json
from typing import Any

import jiter
from hypothesis import given
from hypothesis import strategies as st

from headway.server.anthropic.unfinished import finished_part

VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.text()
    | st.sampled_from(['"', "\\", '\\"', "{"]),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=12,
)
OBJECTS = st.dictionaries(st.text(), VALUES)


def within(part: Any, whole: Any) -> bool:
    """Whether `part` is what came first of `whole`."""
    if isinstance(part, dict):
        names = list(whole)[: len(part)]
        return list(part) == names and all(within(part[name], whole[name]) for name in part)
    if isinstance(part, list):
        return all(within(*pair) for pair in zip(part, whole, strict=False))
    return bool(part == whole)


@given(OBJECTS, st.booleans())
def test_a_whole_object_is_itself(whole: dict[str, Any], ascii_alone: bool) -> None:
    assert finished_part(json.dumps(whole, ensure_ascii=ascii_alone)) == whole


@given(OBJECTS, st.data())
def test_what_is_complete_is_kept(whole: dict[str, Any], data: st.DataObject) -> None:
    text = json.dumps(whole)
    text = text[: data.draw(st.integers(0, len(text)))]
    part = finished_part(text)
    assert within(part, whole)
    # What comes later never takes away; and a client that reads as it comes has no less.
    assert within(part, finished_part(json.dumps(whole)))
    if text:
        assert within(part, jiter.from_json(text.encode(), partial_mode=True))


def test_examples() -> None:
    assert finished_part('{"a": "b", "c": "unfin') == {"a": "b"}
    assert finished_part('{"a": "b"') == {"a": "b"}
    assert finished_part('{"a": [1, {"b": "c"') == {"a": [1, {"b": "c"}]}
    assert finished_part('{"a": {"b": 12') == {"a": {}}
    assert finished_part('{"a": "\\"", "b') == {"a": '"'}
    assert finished_part('{"a": "\\') == {}


def test_what_is_no_object_is_empty() -> None:
    for text in ("", "[1, 2]", "7", "}", "nonsense", '{"a" "b"}', "{" * 5000, '{"a":' * 5000):
        assert isinstance(finished_part(text), dict)
    assert finished_part("[1, 2]") == finished_part('{"a" "b"}') == {}
