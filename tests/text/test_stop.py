"""Stop strings are found wherever the text is cut, exactly as in the whole text."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from headway.text import StopPatterns, StopStrings

LETTERS = st.text(alphabet="ab", max_size=30)
STOPS = st.lists(st.text(alphabet="ab", min_size=1, max_size=5), max_size=4).map(tuple)


def whole(text: str, stop: tuple[str, ...], include: bool) -> tuple[str, str | None]:
    """By definition: the shortest beginning of the text that ends with a stop string."""
    for end in range(1, len(text) + 1):
        matched = [s for s in sorted(stop, key=len, reverse=True) if text[:end].endswith(s)]
        if matched:
            return text[: end if include else end - len(matched[0])], matched[0]
    return text, None


@given(pieces=st.lists(LETTERS, max_size=8), stop=STOPS, include=st.booleans())
def test_streaming_equals_the_whole(
    pieces: list[str], stop: tuple[str, ...], include: bool
) -> None:
    stream = StopStrings(StopPatterns(stop), include)
    shown, matched = "", None
    for piece in pieces:
        text, found = stream.push(piece)
        shown += text
        matched = matched or found
    shown += stream.flush()
    assert (shown, matched) == whole("".join(pieces), stop, include)


def test_only_a_possible_beginning_is_held_back() -> None:
    stream = StopStrings(StopPatterns(("END",)))
    assert stream.push("all of this") == ("all of this", None)
    assert stream.push(" EN") == (" ", None)
    assert stream.push("X") == ("ENX", None)
    assert stream.push("E") == ("", None)
    assert stream.flush() == "E"


def test_nothing_comes_after_a_match() -> None:
    stream = StopStrings(StopPatterns(("\n\n",)), include=True)
    assert stream.push("one\n\ntwo") == ("one\n\n", "\n\n")
    assert stream.push("three") == ("", None)
    assert stream.flush() == ""


def test_cost_does_not_grow_with_what_is_held_back() -> None:
    stream = StopStrings(StopPatterns(("a" * 50_000 + "b",)))
    for _ in range(100):
        assert stream.push("a" * 1000)[1] is None
    assert stream.push("b")[1] is not None


def test_streams_share_what_was_made_of_the_stop_strings() -> None:
    patterns = StopPatterns(("aab", "b", "aab"))
    assert [text for text, _ in patterns.patterns] == ["aab", "b"]
    one, other = StopStrings(patterns), StopStrings(patterns)
    assert one.push("aa") == ("", None)
    assert other.push("b") == ("", "b")
    assert one.push("b") == ("", "aab")
