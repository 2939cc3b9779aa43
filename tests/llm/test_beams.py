"""Beam search: which continuations it finds, against one that is written down plainly."""

from __future__ import annotations

import asyncio
import itertools
import math
from dataclasses import replace
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headway.errors import InvalidRequest, Overloaded
from headway.llm.beams import Beam, BeamSearch, BeamStream
from headway.types import (
    Request,
    ResolvedSampling,
    SamplingParams,
    TokenEvent,
    TokenLogprobs,
)
from tests.server.fakes import FakeLLM

EOS, TOKENS, PROMPT = 0, 5, (3, 4)


class Markov:
    """A model whose next token depends on the last one."""

    def __init__(self, seed: int) -> None:
        random = Random(seed)
        rows = [[random.random() ** 3 + 1e-3 for _ in range(TOKENS)] for _ in range(TOKENS)]
        self._logprobs = [[math.log(x / sum(row)) for x in row] for row in rows]

    def after(self, tokens: tuple[int, ...]) -> list[float]:
        return self._logprobs[tokens[-1]]

    def position(self, tokens: tuple[int, ...], number: int) -> TokenLogprobs:
        row = self.after(tokens)
        ranked = sorted(range(TOKENS), key=lambda token: -row[token])[:number]
        top = tuple((token, row[token]) for token in ranked)
        return TokenLogprobs(token=top[0][0], logprob=top[0][1], rank=1, top=top)


def base(max_tokens: int, *, ignore_eos: bool = False) -> Request:
    sampling = ResolvedSampling(
        max_tokens=max_tokens, seed=0, stop_token_ids=() if ignore_eos else (EOS,)
    )
    return Request(id="r", prompt=PROMPT, sampling=sampling, arrival=0.0)


def search_of(model: Markov, search: BeamSearch) -> list[Beam]:
    while requests := search.requests():
        search.advance(
            [model.position(each.prompt, each.sampling.logprobs or 0) for each in requests]
        )
    return search.best()


def plainly(model: Markov, width: int, length: int, penalty: float) -> list[tuple[float, int]]:
    """Scores and lengths of the best beams, without ever stopping early."""
    live: list[tuple[float, tuple[int, ...]]] = [(0.0, ())]
    scored: list[tuple[float, int]] = []
    for _ in range(length):
        longer = []
        for total, tokens in live:
            row = model.after((*PROMPT, *tokens))
            for token in sorted(range(TOKENS), key=lambda each: -row[each])[: 2 * width]:
                if token == EOS:
                    at = len(PROMPT) + len(tokens)
                    scored.append(((total + row[token]) / at**penalty, len(tokens) + 1))
                else:
                    longer.append((total + row[token], (*tokens, token)))
        live = sorted(longer, key=lambda each: -each[0])[:width]
    scored += [(total / (len(PROMPT) + len(t)) ** penalty, len(t)) for total, t in live]
    return sorted(scored, key=lambda each: -each[0])[:width]


@given(st.integers(0, 10**6), st.integers(1, 4), st.integers(1, 9), st.sampled_from([-1, 0, 1, 3]))
def test_a_search_finds_what_one_without_an_early_end_does(
    seed: int, width: int, length: int, penalty: float
) -> None:
    model = Markov(seed)
    search = BeamSearch(base=base(length), width=width, length_penalty=penalty)
    found = search_of(model, search)
    expected = plainly(model, width, length, penalty)
    assert [search.score(beam) for beam in found] == pytest.approx([each[0] for each in expected])


@given(st.integers(0, 10**6), st.integers(1, 3))
def test_enough_beams_find_the_likeliest_of_all(seed: int, length: int) -> None:
    model = Markov(seed)
    search = BeamSearch(base=base(length, ignore_eos=True), width=TOKENS**length, length_penalty=0)
    best = search_of(model, search)[0]

    def total(tokens: tuple[int, ...]) -> float:
        steps = (model.after((*PROMPT, *tokens[:n]))[tokens[n]] for n in range(length))
        return sum(steps)

    every = itertools.product(range(TOKENS), repeat=length)
    assert best.total == pytest.approx(max(map(total, every)))
    assert best.total == pytest.approx(total(best.tokens))
    assert best.total == pytest.approx(sum(each.logprob for each in best.logprobs))
    assert [each.token for each in best.logprobs] == list(best.tokens)


def test_a_search_ends_once_nothing_better_can_come() -> None:
    """Its end is near certain at once, so a search for a thousand tokens takes two steps."""

    class Ending(Markov):
        def after(self, tokens: tuple[int, ...]) -> list[float]:
            return [-0.01, -5.0, -6.0, -7.0, -8.0]

    search = BeamSearch(base=base(1000), width=2, length_penalty=0)
    found = search_of(Ending(0), search)
    assert search.steps == 2
    assert [beam.tokens for beam in found] == [(EOS,), (1, EOS)]
    assert [beam.finish for beam in found] == ["stop", "stop"]


def test_only_beams_that_go_on_are_made_and_hold_no_more_than_is_shown(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Each holds all its tokens, and there are 2 x width x width that might."""
    made: list[Beam] = []
    extended = Beam.extended

    def counted(beam: Beam, *args: Any, **kwargs: Any) -> Beam:
        made.append(extended(beam, *args, **kwargs))
        return made[-1]

    monkeypatch.setattr(Beam, "extended", counted)
    start = base(6, ignore_eos=True)
    search = BeamSearch(base=start, width=3, length_penalty=1)
    search_of(Markov(2), search)
    assert len(made) == 6 * 3
    assert {each.top for beam in made for each in beam.logprobs} == {()}
    shown = replace(start, sampling=replace(start.sampling, logprobs=2))
    for beam in search_of(Markov(2), replace(search, base=shown, beams=[Beam()], steps=0)):
        assert [len(each.top) for each in beam.logprobs] == [2] * 6


def params(**changes: Any) -> SamplingParams:
    return SamplingParams(**{"use_beam_search": True, "n": 2, "temperature": 0.0, **changes})


@pytest.mark.parametrize(
    "changes",
    [
        {"temperature": 0.7},
        {"stop": "a"},
        {"min_tokens": 2},
        {"top_p": 0.5},
        {"repetition_penalty": 1.1},
        {"logit_bias": {1: 2.0}},
        {"prompt_logprobs": 1},
        {"n": 33},
        {"length_penalty": 10.5},
        {"length_penalty": math.nan},
        {"use_beam_search": False, "length_penalty": 0.5},
    ],
    ids=str,
)
def test_what_a_search_cannot_keep_to_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(InvalidRequest) as caught:
        params(**changes)
    assert caught.value.field == next(name for name in changes if name != "use_beam_search")


def deltas_of(llm: FakeLLM, stream: BeamStream) -> list[Any]:
    async def main() -> list[Any]:
        return [delta async for delta in stream]

    assert llm.client is not None
    return asyncio.run(main())


def stream_of(llm: FakeLLM, *prompts: str, **changes: Any) -> BeamStream:
    request = llm.resolve(*prompts, params=params(**changes), request_id="x")
    stream = llm.run(request)
    assert isinstance(stream, BeamStream)
    return stream


def test_a_stream_of_beams_has_one_delta_for_each() -> None:
    """The stand-in's likeliest token is "b", then "a"."""
    llm = FakeLLM()
    stream = stream_of(llm, "x", "y", max_tokens=2, logprobs=1)
    first, second, *whole = deltas_of(llm, stream)
    assert [(each.index, each.text, each.finish_reason) for each in (first, second)] == [
        (0, "", None),
        (2, "", None),
    ]
    assert first.cached_tokens == 2
    assert first.scheduled_at is not None
    found = [(each.index, each.text, each.token_ids, each.finish_reason) for each in whole]
    assert found == [
        (place, text, tuple(map(ord, text)), "length")
        for place, text in enumerate(["bb", "ba", "bb", "ba"])
    ]
    assert [[each.logprob for each in delta.logprobs] for delta in whole[:2]] == [
        [-0.25, -0.25],
        [-0.25, -0.5],
    ]
    assert [len(each.top) for each in whole[0].logprobs] == [1, 1]
    assert [each.rank for each in whole[1].logprobs] == [1, 2]


def test_the_whole_vocabulary_is_all_of_it() -> None:
    """The stand-in scores three tokens, however many are asked for."""
    llm = FakeLLM()
    *_, best, _ = deltas_of(llm, stream_of(llm, "x", max_tokens=1, logprobs=-1))
    assert len(best.logprobs[0].top) == 3


def test_a_stop_token_ends_a_beam_and_is_shown_only_where_it_is_wanted() -> None:
    for shown in (False, True):
        llm = FakeLLM()
        stream = stream_of(
            llm,
            "x",
            max_tokens=2,
            stop_token_ids=(ord("b"),),
            include_stop_str_in_output=shown,
        )
        *_, best, _ = deltas_of(llm, stream)
        assert (best.finish_reason, best.stop_reason) == ("stop", ord("b"))
        assert best.token_ids == (ord("b"),)
        assert best.text == ("b" if shown else "")


@pytest.mark.parametrize("retry_after", [None, 2.0])
def test_what_the_engine_cannot_do_is_told(retry_after: float | None) -> None:
    llm = FakeLLM()
    llm.engine.fault = (
        0,
        TokenEvent(id="", finish="error", error="no logits", retry_after=retry_after),
    )
    stream = stream_of(llm, "x", max_tokens=2)
    if retry_after is not None:
        with pytest.raises(Overloaded, match="no logits") as caught:
            deltas_of(llm, stream)
        assert caught.value.retry_after == retry_after
        return
    found = deltas_of(llm, stream)
    assert [(each.finish_reason, each.error) for each in found] == [("error", "no logits")] * 2


def test_a_search_that_is_cancelled_or_aborted_leaves_nothing_running() -> None:
    async def main(end: str) -> list[Any]:
        llm = FakeLLM()
        llm.engine.gate.clear()
        stream = stream_of(llm, "x", max_tokens=50)
        reading = asyncio.ensure_future(_all(stream))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert llm.engine.running
        if end == "abort":
            await llm.abort("x")
        else:
            stream.cancel()
        llm.engine.gate.set()
        found = await reading
        assert not llm.engine.running
        return found

    async def _all(stream: BeamStream) -> list[Any]:
        return [delta async for delta in stream]

    assert asyncio.run(main("cancel")) == []
    assert [each.finish_reason for each in asyncio.run(main("abort"))] == ["abort", "abort"]


def test_a_beam_is_never_changed() -> None:
    position = Markov(1).position(PROMPT, 3)
    start = Beam()
    assert start.extended(position, 2, finish="length", shown=1).tokens == (position.top[1][0],)
    assert start == Beam()
    assert replace(start, total=1.0) != start


def test_objectives_are_not_kept_and_not_taken() -> None:
    llm = FakeLLM()
    with pytest.raises(InvalidRequest) as caught:
        llm.resolve("x", params=params(), objectives="ttft=1s")
    assert caught.value.field == "objectives"
