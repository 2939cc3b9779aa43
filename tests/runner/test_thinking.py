"""Budgets of reasoning in both runners: kept to the token, whatever else is asked."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from headway.message import REASONING_FORMATS, TOOL_FORMATS, ToolUse, tool_grammar
from headway.types import Grammar, NewSequence, ResolvedSampling
from headway.types.thinking import ThinkingBudget
from tests.grammar.letters import EOS, TOKENS, token_of
from tests.runner.driver import Driver, Live
from tests.runner.test_constraints import BLOCK, ended, finish, load, said

FORM = REASONING_FORMATS["think"]
CLOSING = tuple(token_of(letter) for letter in FORM.closing)
SCHEMA = {
    "type": "object",
    "properties": {"n": {"type": "integer", "minimum": 0, "maximum": 99}},
    "required": ["n"],
    "additionalProperties": False,
}
PROMPT = [5, 9, 11]


def budget(tokens: int, *, inside: bool = True) -> ThinkingBudget:
    return ThinkingBudget(
        tokens=tokens,
        opening=FORM.opening,
        closing=FORM.closing,
        closing_tokens=CLOSING,
        inside=inside,
    )


def sampling(tokens: int | None, seed: int = 0, **changes: Any) -> ResolvedSampling:
    settings: dict[str, Any] = {"max_tokens": 40, "temperature": 1.0}
    bound = None if tokens is None else budget(tokens)
    return ResolvedSampling(**settings | {"thinking_token_budget": bound} | changes, seed=seed)


def resumed(folder: Path, tokens: list[int], asked: ResolvedSampling) -> list[int]:
    """All that is generated, where these tokens were there before."""
    driver = Driver(load(folder), BLOCK)
    live = Live(0, PROMPT + tokens, len(PROMPT), asked)
    driver.next_seq = 1
    driver.entries.append(
        NewSequence(seq=0, tokens=tuple(live.tokens), prompt_len=len(PROMPT), sampling=asked)
    )
    finish(driver, [live])
    return live.generated


def free_then(folder: Path, asked: ResolvedSampling, place: int) -> list[int]:
    """What an answer without a budget has first, then the marker, then what it would say after."""
    free = sampling(None, asked.seed, temperature=asked.temperature, max_tokens=asked.max_tokens)
    first = said(load(folder), [free])[0][:place]
    return resumed(folder, [*first, *CLOSING], free)


@pytest.mark.parametrize("temperature", [0.0, 1.0])
@pytest.mark.parametrize("tokens", [0, 1, 7])
def test_the_marker_comes_after_so_many_tokens_and_the_rest_is_free(
    either: Path, tokens: int, temperature: float
) -> None:
    asked = sampling(tokens, 3, temperature=temperature)
    [found] = said(load(either), [asked])
    assert found[tokens : tokens + len(CLOSING)] == list(CLOSING)
    assert found == free_then(either, asked, tokens)


def test_reasoning_that_ends_by_itself_is_left_alone(either: Path) -> None:
    begun = [token_of(letter) for letter in "ab</think>"]
    free = resumed(either, begun, sampling(None, 2))
    assert resumed(either, begun, sampling(12, 2)) == free
    assert resumed(either, begun, sampling(4, 2)) == free, "more than so many were there already"


def test_an_answer_that_need_not_reason_is_bounded_once_it_does(either: Path) -> None:
    bound = {"thinking_token_budget": budget(3, inside=False)}
    begun = [token_of(letter) for letter in "\n<think>a"]
    found = resumed(either, begun, sampling(None, 2, **bound))
    assert found[len(begun) + 2 :][: len(CLOSING)] == list(CLOSING)
    plain = [token_of("a")]
    assert resumed(either, plain, sampling(None, 2, **bound)) == resumed(
        either, plain, sampling(None, 2)
    )


@pytest.mark.parametrize(
    "changes",
    [
        {"allowed_token_ids": (token_of("a"), token_of("b"))},
        {"bad_words": tuple((token,) for token in CLOSING)},
        {"logit_bias": tuple((token, -100.0) for token in dict.fromkeys(CLOSING))},
        {"stop_token_ids": CLOSING[:1], "min_tokens": 30},
        {"repetition_penalty": 50.0, "presence_penalty": 2.0},
        {"top_k": 1, "top_p": 0.01, "min_p": 1.0},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_it_comes_whatever_else_is_asked(either: Path, changes: dict[str, Any]) -> None:
    driver = Driver(load(either), BLOCK)
    live = driver.add(PROMPT, sampling(4, 1, **changes))
    while len(live.generated) < 4 + len(CLOSING):
        driver.run([(live, 10**9)])
    assert [each.error for each in live.sampled] == [None] * len(live.generated)
    assert live.generated[4:] == list(CLOSING)
    if "allowed_token_ids" in changes:
        assert set(live.generated[:4]) <= set(changes["allowed_token_ids"])


@pytest.mark.parametrize("tokens", [0, 5])
def test_what_must_match_comes_after_it(either: Path, tokens: int) -> None:
    grammar = tool_grammar(
        TOOL_FORMATS["hermes"], ToolUse(), reasoning=FORM, inside=True, content=SCHEMA
    )
    assert grammar is not None
    asked = [
        sampling(
            tokens,
            seed,
            stop_token_ids=(EOS,),
            max_tokens=60,
            structured_outputs=Grammar(kind="grammar", text=grammar),
        )
        for seed in range(6)
    ]
    for found in said(load(either), asked):
        place = next(
            n for n in range(len(found)) if text_after(found, n).startswith(FORM.closing.encode())
        )
        # A character of several bytes is finished first.
        assert tokens <= place <= tokens + 3
        answer = text_after(found, place + len(CLOSING)).removesuffix(TOKENS[EOS])
        assert set(json.loads(answer)) == {"n"}


def text_after(tokens: list[int], place: int) -> bytes:
    return b"".join(TOKENS[token] for token in tokens[place:])


def test_a_grammar_that_has_no_place_for_it_is_kept_to(either: Path) -> None:
    grammar = Grammar(kind="regex", text="[a-f]{3}-[0-9]{2}")
    asked = sampling(None, 1, structured_outputs=grammar, stop_token_ids=(EOS,))
    bounded = sampling(1, 1, structured_outputs=grammar, stop_token_ids=(EOS,))
    runner = load(either)
    assert said(runner, [asked]) == said(load(either), [bounded])


@pytest.mark.parametrize("right", [0, 1, 3])
def test_drafts_change_nothing(either: Path, right: int) -> None:
    asked = sampling(6, 5)
    [whole] = said(load(either), [asked])
    driver = Driver(load(either), BLOCK)
    live = driver.add(PROMPT, asked)
    most = 0
    while not ended(live):
        known = len(live.generated)
        guess = whole[known : known + right]
        drafts = [*guess, token_of("z"), CLOSING[0]] if live.generated else []
        driver.run([(live, 10**9)], [drafts[: asked.max_tokens - known - 1]])
        most = max(most, len(live.generated) - known)
    assert live.generated == whole
    assert most >= right, "right ones are taken, those of the marker too"


def test_it_is_rebuilt_from_the_tokens_alone(either: Path) -> None:
    asked = sampling(5, 7, max_tokens=20)
    [whole] = said(load(either), [asked])
    for known in range(1, len(whole)):
        assert resumed(either, whole[:known], asked) == whole
    driver = Driver(load(either), BLOCK)
    live = driver.add(PROMPT, asked)
    while not ended(live):
        driver.run([(live, 10**9)])
        if not ended(live):
            driver.preempt(live)
    assert live.generated == whole


def test_log_probabilities_of_forced_tokens_are_the_models_own(either: Path) -> None:
    driver = Driver(load(either), BLOCK)
    live = driver.add(PROMPT, sampling(2, 1, logprobs=3, max_tokens=12))
    finish(driver, [live])
    told = [position for each in live.sampled for position in each.logprobs]
    assert [position.token for position in told] == live.generated
    for position in told[2 : 2 + len(CLOSING)]:
        assert position.logprob < 0
        assert len(position.top) == 3
        assert all(logprob >= position.logprob for _, logprob in position.top[: position.rank - 1])
    assert any(position.rank > 1 for position in told[2 : 2 + len(CLOSING)])
