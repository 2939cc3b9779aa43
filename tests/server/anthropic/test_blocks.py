"""The parts of a message as blocks, in the official client's eyes."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headway.llm import ChoiceCollector, Delta, GenerationRequest, MessageReader, TokensPrompt
from headway.message import MessageDelta, ToolCallDelta, collect
from headway.server.anthropic.blocks import BlockWriter, blocks_of
from headway.server.anthropic.formatter import MessagesFormatter
from headway.server.openai.conversation import Conversation
from headway.server.openai.schema import ChatBody, Message
from headway.types import SamplingParams
from tests.server.anthropic.conftest import check_event, events_in
from tests.server.fakes import FakeLLM

WORDS = st.text(min_size=1, max_size=5)
INPUTS = st.dictionaries(st.text(max_size=4), st.integers() | st.text(max_size=4), max_size=3)


@st.composite
def messages(draw: st.DrawFn) -> list[MessageDelta]:
    """Thinking, then text, then calls, each in pieces."""
    parts = [MessageDelta(reasoning=each) for each in draw(st.lists(WORDS, max_size=3))]
    parts += [MessageDelta(content=each) for each in draw(st.lists(WORDS, max_size=3))]
    for index, given_input in enumerate(draw(st.lists(INPUTS, max_size=3))):
        call = ToolCallDelta(index=index, id=f"call-{index}", name=f"tool_{index}")
        parts.append(MessageDelta(tool_calls=(call,)))
        text = json.dumps(given_input)
        cut = draw(st.integers(0, len(text)))
        parts += [
            MessageDelta(tool_calls=(ToolCallDelta(index=index, arguments=piece),))
            for piece in (text[:cut], text[cut:])
        ]
    return parts


def written(parts: list[MessageDelta]) -> list[dict[str, Any]]:
    writer = BlockWriter("signature")
    events = [event for part in parts for event in writer.write(part)]
    events += writer.close()
    return [msgspec.to_builtins(event) for event in events]


def added_up(events: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The blocks, by the rules of streams: one is open at a time, and they are numbered."""
    blocks: list[dict[str, Any]] = []
    inputs: dict[int, str] = {}
    is_open = False
    for event in events:
        if event["type"] == "content_block_start":
            assert not is_open
            blocks.append(event["content_block"])
            is_open = True
        assert is_open
        assert event["index"] == len(blocks) - 1
        if event["type"] == "content_block_stop":
            is_open = False
        elif event["type"] == "content_block_delta":
            (kind,) = set(event["delta"]) - {"type"}
            piece = event["delta"][kind]
            if kind == "partial_json":
                inputs[event["index"]] = inputs.get(event["index"], "") + piece
            else:
                blocks[-1][kind] += piece
    assert not is_open
    for index, text in inputs.items():
        blocks[index]["input"] = json.loads(text)
    return blocks


@given(messages())
def test_a_stream_of_blocks_adds_up_to_the_whole(parts: list[MessageDelta]) -> None:
    whole = blocks_of(collect(parts), "signature")
    assert added_up(written(parts)) == msgspec.to_builtins(whole)


@given(messages())
def test_every_event_is_known_to_the_client(parts: list[MessageDelta]) -> None:
    for event in written(parts):
        check_event(event)


def test_text_after_a_call_is_a_block_of_its_own() -> None:
    call = ToolCallDelta(index=0, id="1", name="f", arguments="{}")
    parts = [MessageDelta(content="a"), MessageDelta(tool_calls=(call,)), MessageDelta(content="b")]
    assert [block["type"] for block in added_up(written(parts))] == ["text", "tool_use", "text"]


def test_no_parts_are_no_blocks() -> None:
    assert written([]) == []


class Scripted:
    """Thinks until a full stop, then says what follows, and calls a tool at the end if it must."""

    plain = False

    def __init__(self, calls: bool) -> None:
        self._thinking = True
        self._calls = calls

    def feed(self, text: str) -> MessageDelta:
        if not self._thinking:
            return MessageDelta(content=text)
        thought, stop, rest = text.partition(".")
        self._thinking = not stop
        return MessageDelta(reasoning=thought, content=rest)

    def finish(self) -> MessageDelta:
        if not self._calls:
            return MessageDelta()
        call = ToolCallDelta(
            index=0, id="toolu_1", name="look", arguments='{"at": "sky", "for": "b'
        )
        return MessageDelta(tool_calls=(call,))


class Scripting(Conversation):
    """A conversation whose answers a script reads."""

    calls = True

    def reader(self) -> MessageReader:
        return MessageReader(lambda: Scripted(self.calls))


def formatter(kind: type[Conversation], **settings: bool) -> MessagesFormatter:
    llm = FakeLLM()
    prompt = TokensPrompt(token_ids=(1, 2), text=None)
    generation: GenerationRequest = llm.resolve(
        prompt, params=SamplingParams(max_tokens=9), request_id="msg_1"
    )
    body = ChatBody(messages=[Message(role="user", content="x")])
    conversation = kind(body=body, use=None, generation=generation, llm=llm, model="alphabet")
    return MessagesFormatter(conversation, **settings)


PIECES = ("h", "m.", "so", "!")


@pytest.mark.parametrize("shows_thinking", [True, False])
@pytest.mark.parametrize("finish", ["stop", "length"])
def test_thinking_and_calls(finish: Any, shows_thinking: bool) -> None:
    deltas = [Delta(index=0, text=each, token_ids=(1,)) for each in PIECES]
    deltas.append(Delta(index=0, finish_reason=finish))
    streaming = formatter(Scripting, shows_thinking=shows_thinking)
    data, choice = b"", ChoiceCollector()
    for delta in deltas:
        streaming.usage.add(delta)
        choice.add(delta)
        data += streaming.events(delta)
    events = events_in((data + streaming.end()).decode())
    for event in events:
        check_event(event)
    whole_writer = formatter(Scripting, shows_thinking=shows_thinking)
    whole = json.loads(whole_writer.body([choice]))
    kinds = [block["type"] for block in whole["content"]]
    assert kinds == ["thinking"] * shows_thinking + ["text", "tool_use"]
    assert whole["content"][-1] == {
        "type": "tool_use",
        "id": "toolu_1",
        "name": "look",
        "input": {"at": "sky"},
    }
    if shows_thinking:
        assert whole["content"][0] == {
            "type": "thinking",
            "thinking": "hm",
            "signature": "msg_1",
        }
    started = [e["content_block"]["type"] for e in events if e["type"] == "content_block_start"]
    assert started == kinds
    last = events[-2]["delta"]
    assert last["stop_reason"] == whole["stop_reason"]
    assert whole["stop_reason"] == ("tool_use" if finish == "stop" else "max_tokens")
