"""The store of answers: bounded bytes, the least recently used goes first, old ones are gone."""

from __future__ import annotations

import tracemalloc

from hypothesis import given
from hypothesis import strategies as st

from headway.client.response_cache.store import ENTRY_BYTES, LARGEST_SHARE, AnswerStore


class HandClock:
    def __init__(self) -> None:
        self.time = 0.0

    def __call__(self) -> float:
        return self.time


def store(entries: int, value: int = 100, **given: float) -> AnswerStore:
    """One with room for so many values of such a length."""
    size = max(entries, LARGEST_SHARE) * (ENTRY_BYTES + value)
    return AnswerStore(size, max_age=given.get("max_age", 1e9))


def test_what_was_used_longest_ago_goes_first() -> None:
    kept = store(8)
    for number in range(8):
        assert kept.put(bytes([number]), bytes(100))
    assert kept.get(b"\0") is not None
    assert kept.put(b"new", bytes(100))
    assert kept.get(b"\1") is None
    assert kept.get(b"\0") is not None
    assert (len(kept), kept.evictions) == (8, 1)


def test_an_answer_grows_old_from_when_it_was_computed_however_often_it_is_used() -> None:
    clock = HandClock()
    kept = AnswerStore(2**20, max_age=10, clock=clock)
    kept.put(b"k", b"value")
    clock.time = 9.9
    assert kept.get(b"k") == b"value"
    clock.time = 10.0
    assert kept.get(b"k") is None
    assert (len(kept), kept.bytes, kept.evictions) == (0, 0, 0)
    kept.put(b"k", b"v")  # shorter than what was there, which is gone
    assert kept.get(b"k") == b"v"


def test_one_answer_does_not_drive_out_all_others() -> None:
    kept = store(8)
    assert kept.put(b"small", bytes(100))
    assert not kept.put(b"large", bytes(101))
    assert len(kept) == 1


def test_more_of_an_answer_takes_the_place_of_less_and_never_less_that_of_more() -> None:
    kept = store(20)
    kept.put(b"k", b"12")
    assert kept.put(b"k", b"1234")
    assert not kept.put(b"k", b"123")
    assert kept.get(b"k") == b"1234"
    assert kept.bytes == ENTRY_BYTES + 4


@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("put"), st.integers(0, 9), st.integers(0, 600)),
            st.tuples(st.just("get"), st.integers(0, 9), st.just(0)),
            st.tuples(st.just("wait"), st.integers(0, 9), st.just(0)),
            st.tuples(st.just("clear"), st.just(0), st.just(0)),
        )
    )
)
def test_the_bytes_are_what_is_there_and_never_more_than_the_bound(
    calls: list[tuple[str, int, int]],
) -> None:
    clock = HandClock()
    most = LARGEST_SHARE * (ENTRY_BYTES + 400)
    kept = AnswerStore(most, max_age=12, clock=clock)
    given_values: dict[bytes, bytes] = {}
    for call, number, size in calls:
        key = bytes([number])
        if call == "put":
            value = bytes([number]) * size
            if kept.put(key, value):
                given_values[key] = value
                assert kept.get(key) == value
        elif call == "get":
            assert kept.get(key) in (None, given_values.get(key))
        elif call == "wait":
            clock.time += number
        else:
            kept.clear()
        assert kept.bytes <= most
    there = [found for key in given_values if (found := kept.get(key)) is not None]
    assert kept.bytes == sum(ENTRY_BYTES + len(value) for value in there)
    assert len(kept) == len(there)


def test_a_hundred_thousand_answers_take_no_more_memory_than_they_may() -> None:
    most = 4 * 2**20
    kept = AnswerStore(most, max_age=1e9)
    held = 0
    for number in range(100_000):
        if number == 0:
            tracemalloc.start()
        elif number == 10_000:  # It is full, and tracing takes its time.
            held = tracemalloc.get_traced_memory()[0]
            tracemalloc.stop()
        kept.put(number.to_bytes(32), b"%300d" % number)
        assert kept.bytes <= most
    assert len(kept) == most // (ENTRY_BYTES + 300)
    assert kept.evictions == 100_000 - len(kept)
    assert 0 < held <= most
    assert kept.get((99_999).to_bytes(32)) == b"%300d" % 99_999
