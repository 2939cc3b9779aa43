"""The end of reasoning comes when its budget is spent, however the tokens cut its markers."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from headway.grammar import ThinkingWatch
from headway.message import REASONING_FORMATS, PlainMessageParser, ReasoningParser
from headway.types.thinking import ThinkingBudget
from tests.message.calls import read

PIECES = (
    *("<", "</", "think", ">", "</th", "ink>", "<think>", "</think>", "k>\n"),
    *(" ", "\n", "a", "b <", "</think>c", "<think></think>"),
)
TOKENS = tuple(piece.encode() for piece in PIECES)
CLOSING = (1, 2, 3)
"""`</`, `think`, `>`."""
FORM = REASONING_FORMATS["think"]


def budget(
    tokens: int, *, inside: bool = True, closing: tuple[int, ...] = CLOSING
) -> ThinkingBudget:
    return ThinkingBudget(
        tokens=tokens,
        opening=FORM.opening,
        closing=FORM.closing,
        closing_tokens=closing,
        inside=inside,
    )


def ids(*pieces: str) -> list[int]:
    return [PIECES.index(piece) for piece in pieces]


def forced(asked: ThinkingBudget, *pieces: str) -> str | None:
    """What must follow these tokens."""
    watch = ThinkingWatch(asked, TOKENS)
    watch.advance(ids(*pieces))
    token = watch.forced()
    return None if token is None else PIECES[token]


@pytest.mark.parametrize(
    ("tokens", "inside", "said", "expected"),
    [
        (0, True, (), "</"),
        (0, True, ("</",), "think"),
        (0, True, ("</", "think"), ">"),
        (0, True, ("</", "think", ">"), None),
        (0, True, ("</", "think", ">", "a", "a"), None),
        (2, True, ("a",), None),
        (2, True, ("a", "a"), "</"),
        (2, True, ("a", "</"), "</"),
        (2, True, ("a", "</", "</", "think"), ">"),
        (2, True, ("a", "</think>"), None),
        (3, True, ("a", "</th", "ink>"), None),
        (9, True, ("a", "</th", "a", "a", "a", "a", "a", "a", "a"), "</"),
        (2, True, ("<think>", "a"), None),
        (2, True, ("<think>", "a", "a"), "</"),
        (2, True, ("<", "think"), "</"),
        (3, True, ("<", "think", ">", "a", "a"), None),
        (0, False, (), None),
        (0, False, ("\n",), None),
        (0, False, ("\n", "<think>"), "</"),
        (1, False, ("<think>", "a"), "</"),
        (1, False, ("<", "think", "k>\n"), None),
        (0, False, ("a", "<think>"), None),
        (0, False, ("<think></think>",), None),
        (0, False, ("</", "<think>"), None),
        (1, True, ("a", "</", "a", "</"), "think"),
    ],
)
def test_what_must_come(
    tokens: int, inside: bool, said: tuple[str, ...], expected: str | None
) -> None:
    assert forced(budget(tokens, inside=inside), *said) == expected


def open_since(text: str, *, inside: bool) -> int | None:
    """Where the reasoning of this text begins, if it is not closed; by looking at all of it."""
    begun = text.lstrip()
    if begun.startswith(FORM.opening):
        start = len(text) - len(begun) + len(FORM.opening)
    elif inside:
        start = 0
    else:
        return None
    return None if FORM.closing in text[start:] else start


def text_of(tokens: list[int]) -> str:
    return "".join(PIECES[token] for token in tokens)


def tokens_since(said: list[int], start: int | None) -> int | None:
    """How many tokens begin there or later."""
    if start is None:
        return None
    return len(said) - next(n for n in range(len(said) + 1) if len(text_of(said[:n])) >= start)


@given(
    tokens=st.integers(0, 6),
    inside=st.booleans(),
    drawn=st.lists(st.integers(0, len(PIECES) - 1), max_size=14),
    closing=st.sampled_from((CLOSING, tuple(ids("</think>")), tuple(ids("</th", "ink>")))),
)
@example(tokens=0, inside=True, drawn=ids("</", "<"), closing=CLOSING)
def test_no_more_tokens_than_the_budget_and_then_the_marker(
    tokens: int, inside: bool, drawn: list[int], closing: tuple[int, ...]
) -> None:
    """A model that says anything is made to keep to it; what is forced is all that changes."""
    asked = budget(tokens, inside=inside, closing=closing)
    watch, said = ThinkingWatch(asked, TOKENS), list[int]()
    for token in drawn * 2:
        spent = tokens_since(said, open_since(text_of(said), inside=inside))
        due = watch.forced()
        assert (due is not None) == (spent is not None and spent >= tokens)
        said.append(token if due is None else due)
        watch.advance(said)
    text = text_of(said)
    spent = tokens_since(said, open_since(text, inside=inside))
    assert spent is None or spent < tokens + len(closing), "it ends in time"
    if inside and spent is None:
        found = read(ReasoningParser(FORM, PlainMessageParser(), inside=inside), text)
        assert found.content == text.partition(FORM.closing)[2].lstrip()


@given(
    tokens=st.integers(0, 5),
    inside=st.booleans(),
    said=st.lists(st.integers(0, len(PIECES) - 1), max_size=12),
    cuts=st.lists(st.integers(0, 12), max_size=4),
)
def test_it_depends_on_the_tokens_alone(
    tokens: int, inside: bool, said: list[int], cuts: list[int]
) -> None:
    whole, parts = (ThinkingWatch(budget(tokens, inside=inside), TOKENS) for _ in range(2))
    whole.advance(said)
    for cut in sorted(cuts):
        parts.advance(said[:cut])
        known = min(cut, len(said))
        assert parts.forced_after(said[known:]) == whole.forced(), "drafts count as tokens"
    parts.advance(said)
    assert parts.forced() == whole.forced()


def test_a_token_that_stands_for_nothing_is_a_token() -> None:
    watch = ThinkingWatch(budget(2), TOKENS)
    watch.advance([len(TOKENS) + 5, 99])
    assert watch.forced() == CLOSING[0]
