"""Prompts made from segments: equal segments are equal tokens, others are not."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from headway.perf.workload.workload import (
    LONGEST,
    Segment,
    WorkloadRequest,
    distinct_tokens,
    first_seed,
    vocabulary_tokens,
)

SEGMENTS = st.builds(Segment, st.integers(0, 2**42 - 1), st.integers(1, 50))


def request(*segments: Segment) -> WorkloadRequest:
    return WorkloadRequest(segments=segments, output=1, cap=1)


@given(st.lists(SEGMENTS, min_size=1, max_size=5))
def test_tokens_are_those_of_the_segments_in_order(segments: list[Segment]) -> None:
    whole = request(*segments)
    for tokens in (vocabulary_tokens, distinct_tokens):
        parts = [token for segment in segments for token in tokens(request(segment))]
        assert list(tokens(whole)) == parts
        assert len(parts) == whole.prompt_tokens


@given(SEGMENTS, SEGMENTS)
def test_only_equal_seeds_share_distinct_tokens(one: Segment, other: Segment) -> None:
    shared = set(distinct_tokens(request(one))) & set(distinct_tokens(request(other)))
    assert bool(shared) is (one.seed == other.seed)


def test_distinct_tokens_fit_in_62_bits() -> None:
    last = distinct_tokens(request(Segment(2**42 - 1, LONGEST)))
    assert len(set(last)) == LONGEST
    assert 0 <= min(last) <= max(last) < 2**62


def test_vocabulary_tokens_are_within_bounds_and_spread_over_them() -> None:
    tokens = vocabulary_tokens(request(Segment(3, 5000)), low=10, high=14)
    assert set(tokens) == {10, 11, 12, 13}
    assert all(tokens.count(token) > 1000 for token in set(tokens))


def test_vocabulary_tokens_are_the_same_on_every_machine() -> None:
    assert vocabulary_tokens(request(Segment(1, 4))) == [20137, 28310, 3191, 26292]


def test_another_seed_begins_elsewhere() -> None:
    assert first_seed(0) == 0
    assert first_seed(1) - first_seed(0) >= 5_000_000 * 2
    assert 0 <= first_seed(-1) < 2**42
    assert 0 <= first_seed(10**30) < 2**42
