"""What is learned of drafts: how often they are right, of each sequence and of all."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headway.scheduling.speculation.acceptance import (
    UNKNOWN_FIRST,
    UNKNOWN_FURTHER,
    Acceptance,
    OwnChances,
)

KIND = ("ngram", "4")
OTHER = ("forced", "")


def taught(outcomes: list[tuple[int, int]]) -> tuple[Acceptance, OwnChances]:
    acceptance, own = Acceptance(), OwnChances()
    for drafts, accepted in outcomes:
        acceptance.learn(own, KIND, drafts, accepted)
    return acceptance, own


@given(
    outcomes=st.lists(
        st.integers(1, 16).flatmap(lambda n: st.tuples(st.just(n), st.integers(0, n))), max_size=40
    ),
    untried=st.integers(0, 300),
    count=st.integers(1, 16),
)
def test_chances_are_chances_and_never_rise_with_the_place(
    outcomes: list[tuple[int, int]], untried: int, count: int
) -> None:
    acceptance, own = taught(outcomes)
    for _ in range(untried):
        acceptance.untried(own, KIND)
    found = acceptance.chances(own, KIND, count)
    assert len(found) == count
    assert all(0.0 < each < 1.0 for each in found)
    assert found == sorted(found, reverse=True)


def test_of_an_unknown_kind_some_are_right() -> None:
    found = Acceptance().chances({}, KIND, 3)
    assert found == pytest.approx([UNKNOWN_FIRST * UNKNOWN_FURTHER**n for n in range(3)])


def test_a_draft_model_is_expected_to_be_like_its_model() -> None:
    chances = Acceptance()
    found = chances.chances({}, ("draft_model", ""), 2)
    assert found == pytest.approx([0.8, 0.64])
    assert found > chances.chances({}, ("ngram", "4"), 2)


def test_what_is_always_right_or_wrong_is_soon_known() -> None:
    right, own = taught([(4, 4)] * 12)
    assert right.chances(own, KIND, 4)[-1] > 0.8
    wrong, own = taught([(4, 0)] * 12)
    assert wrong.chances(own, KIND, 1)[0] < 0.1


def test_the_first_draft_and_the_others_are_told_apart() -> None:
    """An answer that copies now and then: mostly nothing is right, or all of it."""
    acceptance, own = taught([(4, 0), (4, 4)] * 40)
    first, second, third = acceptance.chances(own, KIND, 3)
    assert first == pytest.approx(0.5, abs=0.05)
    assert second / first > 0.95
    assert third / second > 0.95


def test_of_what_follows_a_wrong_draft_nothing_is_learned() -> None:
    """As many further drafts were seen as came before the first wrong one, and it."""
    once, own = taught([(4, 2)] * 200)
    assert once.chances(own, KIND, 2)[1] == pytest.approx(0.5, abs=0.05)
    only, own = taught([(1, 1)] * 200)
    assert only.chances(own, KIND, 2)[1] == pytest.approx(UNKNOWN_FURTHER, abs=0.02)


def test_a_sequence_begins_with_what_is_known_of_others_of_its_kind() -> None:
    acceptance, _ = taught([(4, 0)] * 60)
    assert acceptance.chances({}, KIND, 1)[0] < 0.1
    assert acceptance.chances({}, OTHER, 1)[0] == UNKNOWN_FIRST


def test_a_sequence_has_chances_of_its_own() -> None:
    acceptance, _ = taught([(2, 0)] * 60)
    own: OwnChances = {}
    for _ in range(20):
        acceptance.learn(own, KIND, 2, 2)
    assert acceptance.chances(own, KIND, 1)[0] > 0.7
    assert acceptance.chances({}, KIND, 1)[0] < 0.4


def test_what_changes_is_learned_anew() -> None:
    acceptance, own = taught([(4, 4)] * 500)
    for _ in range(40):
        acceptance.learn(own, KIND, 4, 0)
    assert acceptance.chances(own, KIND, 1)[0] < 0.4


def test_what_is_not_tried_is_forgotten_slowly() -> None:
    acceptance, own = taught([(4, 0)] * 30)
    before = acceptance.chances(own, KIND, 1)[0]
    for _ in range(20):
        acceptance.untried(own, KIND)
    soon = acceptance.chances(own, KIND, 1)[0]
    for _ in range(20_000):
        acceptance.untried(own, KIND)
    late = acceptance.chances(own, KIND, 1)[0]
    assert before < soon < 0.1
    assert late == pytest.approx(UNKNOWN_FIRST, abs=0.1)


def test_chances_are_told_as_long_as_they_are_worth_it() -> None:
    acceptance = Acceptance()
    whole = acceptance.chances({}, KIND, 8)
    assert acceptance.chances({}, KIND, 8, least=whole[3]) == whole[:4]
    assert acceptance.chances({}, KIND, 2, least=whole[3]) == whole[:2]
    assert acceptance.chances({}, KIND, 8, least=0.99) == []
