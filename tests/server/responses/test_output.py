"""Events of an output add up to its items, whatever parts come, and in whatever pieces."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from headway.message import MessageDelta, ToolCallDelta, collect
from headway.server.responses.objects import ResponseEvent
from headway.server.responses.output import ResponseOutput
from tests.server.responses.checking import EVENT_TYPES, item_type


@st.composite
def messages(draw: st.DrawFn) -> list[MessageDelta]:
    """Parts of a message, whose calls come one after the other."""
    parts: list[MessageDelta] = []
    calls = -1
    for kind in draw(st.lists(st.sampled_from(("reasoning", "content", "call", "more")))):
        text = draw(st.text(max_size=3))
        if kind == "reasoning":
            parts.append(MessageDelta(reasoning=text))
        elif kind == "content":
            parts.append(MessageDelta(content=text))
        elif kind == "call":
            calls += 1
            call = ToolCallDelta(index=calls, id=f"id{calls}", name="f", arguments=text)
            parts.append(MessageDelta(tool_calls=(call,)))
        elif parts and parts[-1].tool_calls:
            more = ToolCallDelta(index=calls, arguments=text)
            parts.append(MessageDelta(tool_calls=(more,)))
    return parts


def plain(events: Iterable[ResponseEvent]) -> list[dict[str, Any]]:
    return [json.loads(msgspec.json.encode(event)) for event in events]


def written(
    parts: list[MessageDelta], *, complete: bool = True
) -> tuple[ResponseOutput, list[dict[str, Any]]]:
    output = ResponseOutput()
    events = [event for part in parts for event in plain(output.add(part))]
    return output, events + plain(output.close(complete=complete))


@given(messages(), st.booleans())
def test_events_add_up_to_the_items(parts: list[MessageDelta], complete: bool) -> None:
    output, events = written(parts, complete=complete)
    items = json.loads(msgspec.json.encode(output.items))
    built: list[dict[str, Any]] = []
    for event in events:
        EVENT_TYPES[event["type"]].model_validate_json(json.dumps(event), strict=True)
        kind = event["type"].removeprefix("response.")
        if kind == "output_item.added":
            assert event["output_index"] == len(built)
            assert event["item"]["status"] == "in_progress"
            built.append({"text": "", "open": True} | {"id": event["item"]["id"]})
            continue
        item = built[event["output_index"]]
        assert event["output_index"] == len(built) - 1, "one item is open at a time"
        assert item["open"]
        if kind.endswith(".delta"):
            item["text"] += event["delta"]
        elif kind == "output_item.done":
            item["open"] = False
            assert event["item"] == items[event["output_index"]]
        elif kind.startswith(("output_text", "reasoning_text")):
            assert event["text"] == item["text"]
        elif kind.startswith("function_call"):
            assert event["arguments"] == item["text"]
        elif kind == "content_part.done":
            assert event["part"]["text"] == item["text"]
    assert [item["id"] for item in built] == [item["id"] for item in items]
    assert len({item["id"] for item in items}) == len(items)
    assert not any(item["open"] for item in built)
    for item in items:
        item_type(item).model_validate_json(json.dumps(item), strict=True)
    assert [item["status"] for item in items[:-1]] == ["completed"] * (len(items) - 1)
    assert items[-1]["status"] == ("completed" if complete else "incomplete")


@given(messages())
def test_items_hold_the_whole_message(parts: list[MessageDelta]) -> None:
    output, _ = written(parts)
    items = json.loads(msgspec.json.encode(output.items))

    def texts(kind: str) -> str:
        found = [item["content"] for item in items if item["type"] == kind]
        return "".join(part["text"] for content in found for part in content)

    message = collect(parts)
    assert texts("reasoning") == message.reasoning
    assert texts("message") == message.content
    calls = [
        (item["call_id"], item["arguments"]) for item in items if item["type"] == "function_call"
    ]
    assert calls == [(call.id, call.arguments) for call in message.tool_calls]


def test_an_answer_of_nothing_is_an_empty_message() -> None:
    output, events = written([])
    (item,) = json.loads(msgspec.json.encode(output.items))
    assert item["content"][0]["text"] == ""
    assert [event["type"].removeprefix("response.") for event in events] == [
        "output_item.added",
        "content_part.added",
        "output_text.done",
        "content_part.done",
        "output_item.done",
    ]


def test_a_call_alone_brings_no_message() -> None:
    call = ToolCallDelta(index=0, id="x", name="f", arguments="{}")
    output, events = written([MessageDelta(tool_calls=(call,))])
    assert [type(item).__name__ for item in output.items] == ["FunctionCallItem"]
    assert [event["type"].removeprefix("response.") for event in events] == [
        "output_item.added",
        "function_call_arguments.delta",
        "function_call_arguments.done",
        "output_item.done",
    ]
