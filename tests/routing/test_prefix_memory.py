"""What is remembered of an engine's cache: the longest known prefix, within its room."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headway.routing import PromptPrefix, prefix_memory
from headway.routing.prefix_memory import PrefixMemory


def prompt(text: str, tokens: int = 10) -> list[PromptPrefix]:
    """A prefix for each beginning of the text, each so many tokens longer."""
    return [PromptPrefix(text[:end].encode(), tokens * end) for end in range(1, len(text) + 1)]


def test_the_longest_known_prefix_counts() -> None:
    memory = PrefixMemory(1000)
    memory.note(prompt("abcd"))
    assert memory.known(prompt("abcd")) == 40
    assert memory.known(prompt("abxy")) == 20
    assert memory.known(prompt("abcdefgh")) == 40
    assert memory.known(prompt("x")) == 0
    assert memory.known([]) == 0


def test_what_prompts_share_takes_room_once() -> None:
    memory = PrefixMemory(1000)
    memory.note(prompt("abc"))
    memory.note(prompt("abd"))
    memory.note(prompt("abd"))
    assert (memory.tokens, len(memory)) == (40, 4)


def test_without_room_the_least_recently_used_ends_go_first() -> None:
    memory = PrefixMemory(60)
    memory.note(prompt("abc"))
    memory.note(prompt("xyz"))
    memory.note(prompt("ab"))  # used again, but for its end
    memory.note(prompt("p"))
    assert memory.known(prompt("abc")) == 20
    assert memory.known(prompt("xyz")) == 30
    memory.note(prompt("q"))
    assert memory.known(prompt("xyz")) == 20


def test_names_are_bounded_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prefix_memory, "MOST_PREFIXES", 3)
    memory = PrefixMemory(1000)
    memory.note(prompt("abcde"))
    assert memory.known(prompt("abcde")) == 30
    assert len(memory) == 3


@given(
    texts=st.lists(st.text("ab", min_size=1, max_size=8), max_size=30),
    room=st.integers(1, 200),
    asked=st.text("ab", min_size=1, max_size=8),
)
def test_whoever_has_a_prefix_has_all_that_it_begins_with(
    texts: list[str], room: int, asked: str
) -> None:
    memory = PrefixMemory(room)
    for text in texts:
        memory.note(prompt(text))
        assert memory.tokens <= room
    one_by_one = 0
    for prefix in prompt(asked):
        if memory.known([prefix]) != prefix.tokens:
            break
        one_by_one = prefix.tokens
    assert memory.known(prompt(asked)) == one_by_one
    assert memory.tokens == 10 * len(memory)
