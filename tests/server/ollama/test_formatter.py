"""Reasoning and calls of tools in Ollama's form, streamed and whole."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headway.llm import ChoiceCollector, Delta, GenerationRequest, MessageReader, TokensPrompt
from headway.llm.resolve import Resolver
from headway.message import MessageDelta, ToolCallDelta
from headway.server.ollama.formatter import CallCollector, OllamaFormatter, chat_reply
from headway.types import FinishReason, SamplingParams
from tests.server.fakes import FakeTokenizer


class Scripted:
    """Gives a part of the script for each piece of text, whatever it says."""

    plain = False

    def __init__(self, script: Sequence[MessageDelta]) -> None:
        self._script: Iterator[MessageDelta] = iter(script)

    def feed(self, text: str) -> MessageDelta:
        return next(self._script) if text else MessageDelta()

    def finish(self) -> MessageDelta:
        return next(self._script, MessageDelta())


def generation() -> GenerationRequest:
    resolver = Resolver(FakeTokenizer(), vocab_size=1000, max_model_len=100)
    prompt = TokensPrompt(token_ids=(7,))
    params = SamplingParams(max_tokens=50)
    return resolver.resolve([prompt], params, request_id="r", arrival=0.0, seeds=[1])


def formatter(script: Sequence[MessageDelta]) -> OllamaFormatter:
    reader = MessageReader(lambda: Scripted(script))
    return OllamaFormatter(generation(), reader, FakeTokenizer(), chat_reply, model="m:latest")


def stream(script: Sequence[MessageDelta], finish: FinishReason = "stop") -> list[dict[str, Any]]:
    """The lines that a script is written as, its last part being held back till the end."""
    written = formatter(script)
    deltas = [Delta(index=0, text="x", token_ids=(97,)) for _ in script[:-1]]
    deltas.append(Delta(index=0, finish_reason=finish))
    data = b""
    for delta in deltas:
        written.usage.add(delta)
        data += written.events(delta)
    data += written.end()
    return [json.loads(line) for line in data.splitlines()]


def call(index: int, name: str | None = None, arguments: str = "") -> MessageDelta:
    given_id = None if name is None else f"id{index}"
    piece = ToolCallDelta(index=index, id=given_id, name=name, arguments=arguments)
    return MessageDelta(tool_calls=(piece,))


CALLS = [
    MessageDelta(reasoning="hm"),
    MessageDelta(content="so"),
    call(0, "f", '{"a":'),
    call(0, None, " [1]}"),
    call(1, "g", ""),
    MessageDelta(),
]


def test_a_stream_of_reasoning_content_and_calls() -> None:
    thinking, content, first, second, last = stream(CALLS)
    assert thinking["message"] == {"role": "assistant", "content": "", "thinking": "hm"}
    assert content["message"] == {"role": "assistant", "content": "so"}
    function = {"name": "f", "arguments": {"a": [1]}}
    assert first["message"]["tool_calls"] == [{"function": function, "id": "id0"}]
    (called,) = second["message"]["tool_calls"]
    assert called["function"] == {"name": "g", "arguments": {}}
    assert (last["done"], last["done_reason"]) == (True, "stop")
    assert "tool_calls" not in last["message"]
    assert all(each["model"] == "m:latest" for each in (thinking, first, last))


@pytest.mark.parametrize("arguments", ['{"a": ', '["no object"]', "nonsense", "[" * 5000])
def test_a_call_that_breaks_off_is_left_out(arguments: str) -> None:
    script = [call(0, "f", "{}"), call(1, "g", arguments), MessageDelta()]
    *lines, last = stream(script, finish="length")
    names = [each["function"]["name"] for line in lines for each in line["message"]["tool_calls"]]
    assert names == ["f"]
    assert last["done_reason"] == "length"


def test_a_whole_answer() -> None:
    whole = MessageDelta(
        reasoning="hm",
        content="so",
        tool_calls=(ToolCallDelta(index=0, id="id0", name="f", arguments='{"a": 1}'),),
    )
    written = formatter([whole])
    choice = ChoiceCollector()
    delta = Delta(index=0, text="x", token_ids=(97,), finish_reason="stop")
    choice.add(delta)
    written.usage.add(delta)
    reply = json.loads(written.body([choice]))
    assert reply["message"]["thinking"] == "hm"
    assert reply["message"]["content"] == "so"
    assert reply["message"]["tool_calls"][0]["function"]["arguments"] == {"a": 1}
    assert (reply["done"], reply["done_reason"]) == (True, "stop")


@given(
    calls=st.lists(st.dictionaries(st.text(max_size=3), st.integers(), max_size=3), max_size=5),
    size=st.integers(1, 9),
)
def test_calls_come_once_in_order_however_they_are_cut(
    calls: list[dict[str, int]], size: int
) -> None:
    collector, found = CallCollector(), []
    for index, arguments in enumerate(calls):
        text = json.dumps(arguments)
        for start in range(0, len(text), size):
            name = f"f{index}" if start == 0 else None
            piece = ToolCallDelta(index=index, name=name, arguments=text[start : start + size])
            collector.add((piece,))
            found += collector.complete(ended=False)
            assert len(found) <= index
    found += collector.complete(ended=True)
    assert [(each.function.name, each.function.arguments) for each in found] == [
        (f"f{index}", arguments) for index, arguments in enumerate(calls)
    ]
    assert collector.complete(ended=True) == []
