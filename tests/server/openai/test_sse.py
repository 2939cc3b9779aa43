"""Events from a pattern are, byte for byte, those that are encoded whole."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headway.llm import Delta, GenerationRequest, TokensPrompt
from headway.llm.messages import MessageReader
from headway.message import REASONING_FORMATS, PlainMessageParser, ReasoningParser
from headway.server.formatter import UsageCounter
from headway.server.openai.chat import ChatChunkChoice, ChatDelta, ChatFormatter
from headway.server.openai.completions import CompletionChunkChoice, CompletionFormatter
from headway.server.openai.conversation import Conversation
from headway.server.openai.schema import ChatBody, CompletionBody, StreamOptions
from headway.server.openai.sse import PLACE, EventEncoder
from headway.types import SamplingParams
from tests.server.fakes import FakeLLM

OPTIONS = (
    None,
    StreamOptions(include_usage=True),
    StreamOptions(include_usage=True, continuous_usage_stats=True),
)
LLM = FakeLLM()


def generation(n: int = 1) -> GenerationRequest:
    params = SamplingParams(n=n, max_tokens=50, seed=1, temperature=1)
    return LLM.resolve(TokensPrompt(token_ids=(120, 121)), params=params, request_id="r")


def encoder(options: StreamOptions | None, tier: str | None = None) -> EventEncoder:
    usage = UsageCounter(generation())
    return EventEncoder(usage, options, id="i", kind="chunk", created=7, model="m\0", tier=tier)


@given(
    text=st.text(),
    index=st.integers(min_value=0, max_value=99),
    options=st.sampled_from(OPTIONS),
    tier=st.sampled_from([None, "flex"]),
)
def test_a_pattern_gives_what_encoding_gives(
    text: str, index: int, options: StreamOptions | None, tier: str | None
) -> None:
    events = encoder(options, tier)

    def chat(content: str) -> ChatChunkChoice:
        return ChatChunkChoice(index=index, delta=ChatDelta(content=content))

    def thought(content: str) -> ChatChunkChoice:
        delta = ChatDelta(reasoning=content, reasoning_content=content)
        return ChatChunkChoice(index=index, delta=delta)

    def completion(content: str) -> CompletionChunkChoice:
        return CompletionChunkChoice(index=index, text=content)

    for make in (chat, thought, completion):
        assert events.text(events.pattern(make(PLACE)), text) == events.choice(make(text))


PIECES = st.lists(st.tuples(st.integers(min_value=0, max_value=1), st.text(max_size=5)), max_size=8)


def deltas(pieces: list[tuple[int, str]]) -> list[Delta]:
    """Pieces of the texts of two continuations, and their ends."""
    found = [Delta(index=index, text=text, token_ids=(1,)) for index, text in pieces]
    return [*found, *(Delta(index=index, text="!", finish_reason="stop") for index in range(2))]


@given(pieces=PIECES, options=st.sampled_from(OPTIONS))
def test_a_streamed_chat_is_the_same_with_and_without_patterns(
    pieces: list[tuple[int, str]], options: StreamOptions | None
) -> None:
    message = {"role": "user", "content": "x"}
    body = msgspec.convert({"messages": [message], "stream": True}, ChatBody)
    body = msgspec.structs.replace(body, stream_options=options)

    def stream(*, plain: bool) -> bytes:
        conversation = Conversation(
            body=body, use=None, generation=generation(2), llm=LLM, model="m"
        )
        formatter = ChatFormatter(conversation)
        formatter._plain = plain
        return _driven(formatter, deltas(pieces))

    assert stream(plain=True) == stream(plain=False)


THINK = REASONING_FORMATS["think"]


@given(pieces=st.lists(st.sampled_from(["<think>", "</think>", "a", " ", "b<", "\n"]), max_size=9))
def test_a_chat_with_reasoning_is_the_same_with_and_without_patterns(pieces: list[str]) -> None:
    message = {"role": "user", "content": "x"}
    body = msgspec.convert({"messages": [message], "stream": True}, ChatBody)

    def stream(*, plain: bool) -> bytes:
        conversation = Conversation(
            body=body, use=None, generation=generation(2), llm=LLM, model="m"
        )
        formatter = ChatFormatter(conversation)
        formatter._reader = MessageReader(
            lambda: ReasoningParser(THINK, PlainMessageParser(), inside=False)
        )
        formatter._plain = plain
        return _driven(formatter, deltas([(0, each) for each in pieces]))

    assert stream(plain=True) == stream(plain=False)


@given(pieces=PIECES, options=st.sampled_from(OPTIONS), echo=st.booleans())
def test_a_streamed_completion_is_the_same_with_and_without_patterns(
    pieces: list[tuple[int, str]], options: StreamOptions | None, echo: bool
) -> None:
    body = CompletionBody(prompt="x", stream=True, stream_options=options, echo=echo)

    def stream(*, plain: bool) -> bytes:
        formatter = CompletionFormatter(generation(2), body, LLM, "m")
        formatter._plain = plain
        return _driven(formatter, deltas(pieces))

    assert stream(plain=True) == stream(plain=False)


def _driven(formatter: ChatFormatter | CompletionFormatter, given: list[Delta]) -> bytes:
    data = b""
    for delta in given:
        formatter.usage.add(delta)
        data += formatter.events(delta)
    return data + formatter.end()


@pytest.mark.parametrize("timed", [True, False])
def test_timings_are_in_every_event_of_a_chat_where_they_are_asked_for(timed: bool) -> None:
    asked = {"messages": [{"role": "user", "content": "x"}], "stream": True}
    body = msgspec.convert(asked | {"timings_per_token": timed}, ChatBody)
    formatter = ChatFormatter(
        Conversation(body=body, use=None, generation=generation(), llm=LLM, model="m")
    )
    delta = Delta(index=0, text="a", token_ids=(97,))
    formatter.usage.add(delta)
    (_, event) = formatter.events(delta).removesuffix(b"\n\n").split(b"\n\n")
    assert (b'"timings":{' in event) is timed


@pytest.mark.parametrize("return_ids", [True, False])
def test_token_ids_are_in_every_event_where_they_are_asked_for(return_ids: bool) -> None:
    body = CompletionBody(prompt="x", stream=True, return_token_ids=return_ids)
    formatter = CompletionFormatter(generation(), body, LLM, "m")
    data = formatter.events(Delta(index=0, text="a", token_ids=(97,)))
    assert (b'"token_ids":[97]' in data) is return_ids
