"""Prompt lookup: the guesses are those of a search through the whole text, and cost no search."""

from __future__ import annotations

from collections.abc import Sequence as Seq

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headway.errors import InvalidRequest
from headway.scheduling.drafts import Guess, Wanted
from headway.scheduling.speculation import prompt_lookup
from headway.scheduling.speculation.prompt_lookup import AT_ONCE, LONG, PromptLookup
from headway.types import Request, ResolvedSampling

texts = st.lists(st.integers(0, 3), min_size=1, max_size=60)


def asking(
    tokens: Seq[int],
    *,
    id: str = "a",  # noqa: A002
    prompt: int = 1,
    prediction: tuple[int, ...] = (),
) -> Request:
    return Request(
        id=id,
        prompt=tuple(tokens[:prompt]),
        sampling=ResolvedSampling(max_tokens=100, seed=0),
        arrival=0.0,
        prediction=prediction,
    )


def guess(lookup: PromptLookup, request: Request, tokens: Seq[int], most: int = 8) -> Guess:
    (found,) = lookup.propose([Wanted(request, tokens, most)])
    return found


def searched(tokens: Seq[int], *, longest: int, least: int, most: int) -> list[int]:
    """The same by looking everywhere: the last place of the longest run, and what followed it."""
    for length in range(longest, least - 1, -1):
        run = list(tokens[len(tokens) - length :])
        for place in range(len(tokens) - 1, length - 1, -1):
            if length <= len(tokens) and list(tokens[place - length : place]) == run:
                text = list(tokens)
                for n in range(most):
                    text.append(text[place + n])
                return text[len(tokens) :]
    return []


@given(tokens=texts, longest=st.integers(1, 5), least=st.integers(1, 3), most=st.integers(1, 20))
def test_the_guess_is_what_followed_the_last_longest_run(
    tokens: list[int], longest: int, least: int, most: int
) -> None:
    longest = max(longest, least)
    lookup = PromptLookup(longest=longest, least=least)
    found = guess(lookup, asking(tokens), tokens, most)
    assert list(found.tokens) == searched(tokens, longest=longest, least=least, most=most)
    assert bool(found.kind) == bool(found.tokens)


@given(tokens=texts, steps=st.lists(st.integers(1, 7), max_size=12))
def test_an_index_that_grew_is_one_that_was_made_at_once(
    tokens: list[int], steps: list[int]
) -> None:
    grown, request = PromptLookup(), asking(tokens)
    end = 1
    for step in steps:
        guess(grown, request, tokens[:end])
        end = min(end + step, len(tokens))
    assert guess(grown, request, tokens) == guess(PromptLookup(), request, tokens)
    assert grown.size == len(tokens)


def test_what_is_periodic_goes_on_beyond_its_end() -> None:
    tokens = [9, 1, 2, 3, 1, 2, 3, 1]
    found = guess(PromptLookup(), asking(tokens), tokens)
    assert list(found.tokens) == [2, 3, 1, 2, 3, 1, 2, 3]


@pytest.mark.parametrize("length", [2, 3, 4, 7, 8, 15, 16, 30])
def test_a_kind_says_how_long_the_match_is(length: int) -> None:
    run = list(range(100, 100 + length))
    tokens = [*run, 7, 8, 5, *run]
    kind = guess(PromptLookup(), asking(tokens), tokens).kind
    assert kind == str(next((each for each in LONG if length >= each), length))


def test_the_longer_match_counts_even_where_a_shorter_one_is_nearer() -> None:
    tokens = [1, 2, 3, 4, 50, 9, 3, 4, 60, 1, 2, 3, 4]
    assert list(guess(PromptLookup(), asking(tokens), tokens, 1).tokens) == [50]
    short = PromptLookup(longest=2)
    assert list(guess(short, asking(tokens), tokens, 1).tokens) == [60]


def test_of_a_run_that_is_everywhere_the_last_places_are_looked_at(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(prompt_lookup, "PLACES", 3)
    tokens = [2, 3, 4, 50, *([3, 4, 9] * 4), 1, 2, 3, 4]
    assert list(guess(PromptLookup(), asking(tokens), tokens, 1).tokens) == [9]
    monkeypatch.setattr(prompt_lookup, "PLACES", 5)
    assert list(guess(PromptLookup(), asking(tokens), tokens, 1).tokens) == [50]


def test_a_longest_run_is_found_however_many_shorter_ones_came_since(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(prompt_lookup, "PLACES", 1)
    tokens = [1, 2, 3, 4, 50, *([3, 4, 9] * 4), 1, 2, 3, 4]
    assert list(guess(PromptLookup(), asking(tokens), tokens, 1).tokens) == [50]


def test_a_long_text_is_read_over_several_steps() -> None:
    tokens = [*range(2 * AT_ONCE + 9), 5, 6]
    lookup, request = PromptLookup(), asking(tokens)
    found = [list(guess(lookup, request, tokens, 2).tokens) for _ in range(3)]
    assert found == [[], [], [7, 8]]


def test_texts_of_one_step_are_read_together_within_its_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(prompt_lookup, "AT_ONCE", 7)
    lookup, tokens = PromptLookup(), [1, 2, 3, 4, 5, 6, 1, 2]
    wanted = [Wanted(asking(tokens, id=name), tokens, 1) for name in "abc"]
    found = [[bool(guess.tokens) for guess in lookup.propose(wanted)] for _ in range(3)]
    assert found == [[True, False, False], [True, True, False], [True, True, True]]


def test_a_prediction_is_looked_in_first() -> None:
    prediction = (1, 2, 3, 4, 5, 6)
    tokens = [9, 2, 3, 7, 7, 2, 3]
    request = asking(tokens, prompt=5, prediction=prediction)
    assert guess(PromptLookup(), request, tokens, 2) == Guess((4, 5), "predicted 2")
    assert guess(PromptLookup(), request, tokens, 9).tokens == (4, 5, 6), "no further than it goes"
    plain = asking(tokens, prompt=5)
    assert list(guess(PromptLookup(), plain, tokens, 2).tokens) == [7, 7]


def test_a_longer_match_in_the_text_passes_a_prediction() -> None:
    tokens = [1, 2, 3, 7, 9, 1, 2, 3]
    request = asking(tokens, prompt=5, prediction=(2, 3, 4))
    assert list(guess(PromptLookup(), request, tokens, 1).tokens) == [7]


def test_an_answer_that_begins_as_predicted_goes_on_so() -> None:
    request = asking([8, 9], prompt=2, prediction=(5, 6, 7))
    lookup = PromptLookup(predicted_only=True)
    assert guess(lookup, request, [8, 9], 2) == Guess((5, 6), "predicted 1")
    assert guess(lookup, request, [8, 9, 5], 2) == Guess((6, 7), "predicted 1")
    assert guess(lookup, request, [8, 9, 6]) == Guess()
    assert guess(lookup, request, [8, 9, 5, 6, 7]) == Guess(), "nothing is left of it"


def test_with_predictions_alone_nothing_else_is_looked_in() -> None:
    lookup = PromptLookup(predicted_only=True)
    tokens = [1, 2, 3, 1, 2]
    with_one, without = asking(tokens, prediction=(7, 8)), asking(tokens)
    assert (lookup.may_propose(with_one), lookup.may_propose(without)) == (True, False)
    assert guess(lookup, with_one, tokens) == Guess()
    assert lookup.size == 2
    assert PromptLookup().may_propose(without)


def test_what_is_kept_of_a_request_goes_when_it_ends() -> None:
    lookup = PromptLookup()
    for name in "abc":
        guess(lookup, asking([1, 2, 3], id=name), [1, 2, 3])
    assert lookup.size == 9
    lookup.forget("b")
    lookup.forget("b")
    lookup.forget("unknown")
    assert lookup.size == 6
    for name in "ac":
        lookup.forget(name)
    assert (lookup.size, len(lookup._texts)) == (0, 0)


def test_another_request_of_the_same_id_is_another_text() -> None:
    lookup = PromptLookup()
    guess(lookup, asking([1, 2, 3, 4]), [1, 2, 3, 4])
    tokens = [5, 6, 7, 5, 6]
    assert list(guess(lookup, asking(tokens), tokens, 1).tokens) == [7]
    assert lookup.size == 5


def test_all_indices_together_are_bounded_and_those_asked_about_last_stay(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(prompt_lookup, "MOST_TOKENS", 10)
    lookup = PromptLookup()
    tokens = [1, 2, 1, 2]
    requests = {name: asking(tokens, id=name) for name in "abc"}
    for name in "aba":
        guess(lookup, requests[name], tokens)
    assert guess(lookup, requests["c"], tokens).tokens
    assert list(lookup._texts) == ["a", "c"]
    # Those of one step do not drive each other out, which would make all of them anew each time.
    found = lookup.propose([Wanted(each, tokens, 1) for each in requests.values()])
    assert [bool(each.tokens) for each in found] == [True, False, True]
    assert lookup.size <= 10
    long = list(range(11))
    assert guess(lookup, asking(long, id="d"), long) == Guess()


def test_runs_of_no_token_are_refused() -> None:
    with pytest.raises(InvalidRequest, match="at least one"):
        PromptLookup(least=0)
    with pytest.raises(InvalidRequest, match="for 5 to 4"):
        PromptLookup(least=5)
