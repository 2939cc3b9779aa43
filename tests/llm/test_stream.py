"""Token events become text: stop strings, stop tokens, and independence of how events are cut."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headway.llm.outputs import Delta
from headway.llm.resolve import GenerationRequest, Resolver
from headway.llm.stream import DeltaDecoder
from headway.text import StopPatterns, Tokenizer
from headway.types import FinishReason, SamplingParams, TokenEvent, TokenLogprobs
from tests.llm.support import EOS, VOCABULARY, write_prepared
from tests.server.fakes import FakeLLM


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    folder: Path = tmp_path_factory.mktemp("model")
    write_prepared(folder)
    return Tokenizer.load(folder)


def resolve(tokenizer: Tokenizer, params: SamplingParams, *prompts: str) -> GenerationRequest:
    resolver = Resolver(tokenizer, vocab_size=VOCABULARY, max_model_len=512)
    return resolver.resolve(prompts, params, request_id="r", arrival=0.0, seeds=[1] * len(prompts))


def decoder_of(tokenizer: Tokenizer, params: SamplingParams) -> DeltaDecoder:
    request = resolve(tokenizer, params, "Q:")
    return DeltaDecoder(0, request, tokenizer, StopPatterns(params.stop))


def read(
    tokenizer: Tokenizer,
    params: SamplingParams,
    pieces: list[list[int]],
    finish: FinishReason = "length",
) -> list[Delta]:
    """Feed pieces as events, the last with `finish`, until the continuation ends."""
    reader = decoder_of(tokenizer, params)
    deltas = []
    for number, piece in enumerate(pieces, start=1):
        last = number == len(pieces)
        event = TokenEvent(
            id="r",
            tokens=tuple(piece),
            logprobs=tuple(TokenLogprobs(token=token, logprob=-1.0, rank=1) for token in piece),
            finish=finish if last else None,
            stop_reason=piece[-1] if last and finish == "stop" else None,
        )
        deltas.append(reader.decode(event))
        if deltas[-1].finish_reason is not None:
            break
    return deltas


def text(deltas: list[Delta]) -> str:
    return "".join(delta.text for delta in deltas)


def test_text_follows_the_tokens(tokenizer: Tokenizer) -> None:
    pieces = [[token] for token in tokenizer.encode("héllo")]
    deltas = read(tokenizer, SamplingParams(), pieces)
    assert text(deltas) == "héllo"
    assert [len(delta.token_ids) for delta in deltas] == [1] * 6
    assert deltas[1].text == ""
    assert deltas[0].cached_tokens == 0
    assert deltas[1].cached_tokens is None


def test_an_open_character_is_closed_at_the_end(tokenizer: Tokenizer) -> None:
    first = tokenizer.encode("é")[:1]
    assert text(read(tokenizer, SamplingParams(), [first])) == "\ufffd"


def test_an_error_says_whether_the_request_was_ever_scheduled(tokenizer: Tokenizer) -> None:
    decoder = decoder_of(tokenizer, SamplingParams())
    deltas = [
        decoder.decode(event)
        for event in (
            TokenEvent(id="r", tokens=(5,), scheduled_at=3.0),
            TokenEvent(id="r", tokens=(6,)),
            TokenEvent(id="r", finish="error", error="it broke"),
        )
    ]
    assert [delta.scheduled_at for delta in deltas] == [3.0, None, 3.0]
    refused = decoder_of(tokenizer, SamplingParams())
    assert refused.decode(TokenEvent(id="r", finish="error", error="no")).scheduled_at is None


def test_a_stop_string_ends_the_text_and_cuts_the_tokens(tokenizer: Tokenizer) -> None:
    params = SamplingParams(stop=("END",))
    deltas = read(tokenizer, params, [tokenizer.encode("one ENDING"), tokenizer.encode("more")])
    (delta,) = deltas
    assert delta.text == "one "
    assert (delta.finish_reason, delta.stop_reason) == ("stop", "END")
    assert delta.token_ids == tuple(tokenizer.encode("one END"))
    assert len(delta.logprobs) == len(delta.token_ids)


def test_drafts_are_told_and_those_beyond_a_stop_string_are_not_accepted(
    tokenizer: Tokenizer,
) -> None:
    tokens = tuple(tokenizer.encode("abcd", add_special_tokens=False))
    event = TokenEvent(id="r", tokens=tokens, draft_tokens=5, accepted_tokens=3)
    whole = decoder_of(tokenizer, SamplingParams()).decode(event)
    assert (whole.draft_tokens, whole.accepted_tokens) == (5, 3)
    cut = decoder_of(tokenizer, SamplingParams(stop="ab")).decode(event)
    assert (len(cut.token_ids), cut.draft_tokens, cut.accepted_tokens) == (2, 5, 2)


def test_a_stop_string_may_stay_in_the_text(tokenizer: Tokenizer) -> None:
    params = SamplingParams(stop=("END",), include_stop_str_in_output=True)
    assert text(read(tokenizer, params, [tokenizer.encode("one ENDING")])) == "one END"


def test_the_beginning_of_a_stop_string_is_held_back_until_it_is_none(
    tokenizer: Tokenizer,
) -> None:
    params = SamplingParams(stop=("END",))
    deltas = read(tokenizer, params, [tokenizer.encode(part) for part in ("aE", "N", "Tb", "E")])
    assert [delta.text for delta in deltas] == ["a", "", "ENTb", "E"]
    assert deltas[-1].finish_reason == "length"


def test_stop_strings_count_only_after_min_tokens(tokenizer: Tokenizer) -> None:
    params = SamplingParams(stop=("a",), min_tokens=3)
    (delta,) = read(tokenizer, params, [tokenizer.encode("aabcab")])
    assert delta.text == "aabc"


@pytest.mark.parametrize(("include", "expected"), [(False, "ab"), (True, "abc")])
def test_a_stop_token_shows_only_when_included(
    tokenizer: Tokenizer, include: bool, expected: str
) -> None:
    tokens = tokenizer.encode("abc")
    params = SamplingParams(stop_token_ids=(tokens[-1],), include_stop_str_in_output=include)
    (delta,) = read(tokenizer, params, [tokens], finish="stop")
    assert delta.text == expected
    assert delta.token_ids == tuple(tokens)
    assert delta.stop_reason == tokens[-1]


def test_the_models_own_end_is_no_stop_reason(tokenizer: Tokenizer) -> None:
    tokens = [*tokenizer.encode("ab"), EOS]
    (delta,) = read(tokenizer, SamplingParams(), [tokens], finish="stop")
    assert (delta.text, delta.finish_reason, delta.stop_reason) == ("ab", "stop", None)
    asked = SamplingParams(stop_token_ids=(EOS,))
    assert read(tokenizer, asked, [tokens], finish="stop")[0].stop_reason == EOS


@settings(max_examples=60, deadline=None)
@given(data=st.data(), words=st.text("ab\u00e9 ", min_size=1, max_size=24))
def test_the_result_does_not_depend_on_how_events_are_cut(
    tokenizer: Tokenizer, data: st.DataObject, words: str
) -> None:
    params = SamplingParams(stop=("aab", "\u00e9a"), min_tokens=2)
    tokens = tokenizer.encode(words)
    cuts = sorted(data.draw(st.sets(st.integers(1, len(tokens)))) | {len(tokens)})
    pieces = [tokens[start:end] for start, end in zip([0, *cuts], cuts, strict=False)]
    whole = read(tokenizer, params, [tokens])
    cut = read(tokenizer, params, pieces)
    assert text(cut) == text(whole)
    assert sum((delta.token_ids for delta in cut), ()) == whole[0].token_ids
    assert cut[-1].stop_reason == whole[0].stop_reason


def test_equal_continuations_are_computed_once_and_told_for_each() -> None:
    async def main(temperature: float) -> tuple[set[str], list[Any]]:
        llm = FakeLLM()
        llm.engine.gate.clear()
        params = SamplingParams(n=3, max_tokens=2, temperature=temperature, prompt_logprobs=0)
        stream = llm.run(llm.resolve("xy", "z", params=params, request_id="r"))
        running = set(llm.engine.running)
        llm.engine.gate.set()
        return running, [delta async for delta in stream]

    once, copied = asyncio.run(main(0.0))
    each, drawn = asyncio.run(main(1.0))
    assert once == {"r-p0-0", "r-p1-0"}
    assert len(each) == 6
    for index in range(6):
        mine = [delta for delta in copied if delta.index == index]
        other = [delta for delta in drawn if delta.index == index]
        assert [(d.text, d.token_ids, d.finish_reason) for d in mine] == [
            (d.text, d.token_ids, d.finish_reason) for d in other
        ]
        assert bool(mine[0].prompt_logprobs) == (index % 3 == 0), "once a prompt"


def test_drafts_of_equal_continuations_count_once() -> None:
    async def main() -> list[int]:
        llm = FakeLLM()
        llm.engine.drafts = (2, 1)
        params = SamplingParams(n=2, temperature=0, max_tokens=3)
        return [delta.draft_tokens async for delta in llm.stream("x", params)]

    assert asyncio.run(main()) == [0, 0, 2, 0, 2, 0]


def test_copies_that_are_cancelled_say_no_more() -> None:
    async def main() -> None:
        llm = FakeLLM()
        params = SamplingParams(n=3, max_tokens=9, temperature=0.0)
        stream = llm.run(llm.resolve("x", params=params))
        assert (await anext(stream)).index == 0
        assert (await anext(stream)).index == 1
        stream.cancel()
        assert [delta async for delta in stream] == []
        assert not llm.engine.running

    asyncio.run(main())
