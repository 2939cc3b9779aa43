"""The batch that viewers share: deltas rebuild it exactly, never outgrow a frame, and tell no one
what is another tenant's."""

from __future__ import annotations

from typing import Any

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from headway.server.page.batch import (
    MOST_ENDS,
    MOST_PROGRESS,
    MOST_QUEUES,
    MOST_ROWS,
    STATELY,
    SharedBatch,
)
from headway.types.batch_news import BatchNews
from tests.server.page.batches import RowKeeper, end, news, runs, sequence


def slots_of(batch: SharedBatch) -> dict[str | None, int]:
    return {row.name: row.slot for row in batch.shown.values()}


def told(batch: SharedBatch, *all_news: BatchNews) -> SharedBatch:
    for each in all_news:
        batch.update(each)
        batch.delta()
    return batch


def test_the_lowest_free_slot_is_taken_and_kept() -> None:
    batch = told(SharedBatch(), news(runs("a"), runs("b"), runs("c")))
    assert slots_of(batch) == {"a": 0, "b": 1, "c": 2}
    told(batch, news(runs("a"), runs("c"), ended=[end(runs("b"))]))
    assert slots_of(batch) == {"a": 0, "c": 2}
    told(batch, news(runs("a"), runs("c"), runs("d"), runs("e")))
    assert slots_of(batch) == {"a": 0, "c": 2, "d": 1, "e": 3}


def test_each_engine_has_slots_and_a_queue_of_its_own() -> None:
    batch = told(
        SharedBatch(),
        news(runs("a"), waiting=[sequence("w")], replica=0),
        news(runs("b"), runs("c"), replica=3),
    )
    places = {row.name: (row.replica, row.slot) for row in batch.shown.values()}
    assert places == {"a": (0, 0), "b": (3, 0), "c": (3, 1), "w": (0, -1)}
    assert (batch.queue.slots, batch.queue.running, batch.queue.waiting) == (16, 3, 1)
    assert (batch.queue.waits_for, batch.queue.next) == ("slot", ())
    assert {each: queue.running for each, queue in batch.queues.items()} == {0: 1, 3: 2}
    assert batch.queues[0].next == (1,)
    # What one does not tell any more says nothing of the other's.
    told(batch, news(runs("b"), ended=[end(runs("c"))], replica=3))
    assert slots_of(batch) == {"a": 0, "b": 0, "w": -1}


def test_only_the_queues_that_changed_are_told_and_not_all_at_once() -> None:
    batch = SharedBatch()
    for replica in range(MOST_QUEUES + 4):
        batch.update(news(runs(f"r{replica}"), replica=replica))
    assert len(batch.delta().queues) == MOST_QUEUES
    assert len(batch.delta().queues) == 4
    batch.update(news(runs("r2"), runs("s"), replica=2))
    assert [(queue.replica, queue.running) for queue in batch.delta().queues] == [(2, 2)]
    assert batch.delta().queues == []


def test_one_engine_has_no_queue_beside_the_whole() -> None:
    batch = told(SharedBatch(), news(runs("a"), waiting=[sequence("b")]))
    assert (batch.queues, batch.several, batch.queue.next) == ({}, False, (1,))


def test_a_request_that_moves_keeps_its_bar_and_gets_a_slot_there() -> None:
    batch = told(SharedBatch(), news(runs("a"), runs("b")), news(runs("c"), replica=1))
    key = next(row.key for row in batch.shown.values() if row.name == "b")
    # The engine that has it now tells first; then the other one lets it go.
    told(batch, news(runs("c"), runs("b"), replica=1))
    told(batch, news(runs("a"), ended=[end(runs("b"))]))
    row = batch.shown[key]
    assert (row.name, row.replica, row.slot) == ("b", 1, 1)
    # Its slot there is free again.
    told(batch, news(runs("a"), runs("d")))
    assert slots_of(batch) == {"a": 0, "b": 1, "c": 0, "d": 1}


def test_an_engine_that_is_gone_has_nothing() -> None:
    batch = told(SharedBatch(), news(runs("a")), news(runs("b"), replica=1))
    batch.keep([0], 9.0)
    delta = batch.delta()
    assert [(gone.at, gone.reason) for gone in delta.gone] == [(9.0, None)]
    assert (slots_of(batch), batch.queues, batch.several) == ({"a": 0}, {}, False)
    assert (batch.queue.running, batch.queue.slots) == (1, 8)


def test_of_many_engines_few_requests_each_are_shown() -> None:
    batch = SharedBatch()
    for replica in range(64):
        crowd = [runs(f"r{replica}-{n}") for n in range(256)]
        waits = [sequence(f"w{replica}-{n}") for n in range(64)]
        batch.update(news(*crowd, waiting=waits, replica=replica))
    for replica in range(64):
        crowd = [runs(f"r{replica}-{n}") for n in range(256)]
        batch.update(news(*crowd, replica=replica))
    while batch.delta().rows:
        pass
    assert len(batch.shown) == 64 * 8
    assert (batch.queue.running, batch.queue.slots) == (64 * 256, 64 * 8)


def test_who_is_set_back_leaves_its_slot() -> None:
    batch = told(SharedBatch(), news(runs("a"), runs("b")))
    told(batch, news(runs("b"), waiting=[sequence("a", preemptions=1, scheduled_at=2.0)]))
    assert slots_of(batch) == {"a": -1, "b": 1}
    assert batch.queue.next == (1,)
    # It is aborted while it waits: no slot was taken for that.
    batch.update(news(runs("b"), ended=[end(sequence("a", preemptions=1, scheduled_at=2.0))]))
    delta = batch.delta()
    assert (delta.rows, [gone.key for gone in delta.gone]) == ([], [1])


def test_what_came_and_went_between_two_news_has_its_bar() -> None:
    batch = told(SharedBatch(), news(runs("a")))
    batch.update(news(runs("a"), ended=[end(runs("b", generated=7), at=3.5)]))
    delta = batch.delta()
    (row,) = delta.rows
    assert (row.name, row.slot, row.computed) == ("b", 1, 26)
    (gone,) = delta.gone
    assert (gone.key, gone.at, gone.reason, gone.generated) == (row.key, 3.5, "stop", 7)


def test_prefills_are_told_at_once_and_decodes_in_turn() -> None:
    prefills: dict[str, Any] = {"first_token_at": None, "generated": 0}
    batch = told(SharedBatch(), news(runs("p", **prefills), *(runs(f"d{n}") for n in range(9))))
    seen: list[int] = []
    for count in range(STATELY):
        more = [runs(f"d{n}", generated=6 + count) for n in range(9)]
        batch.update(news(runs("p", computed=10 + count, **prefills), *more))
        delta = batch.delta()
        assert delta.rows == []
        assert any(each.key == 1 for each in delta.progress)
        seen += [each.key for each in delta.progress if each.key != 1]
    assert sorted(seen) == list(range(2, 11))


def test_of_one_that_ended_its_end_alone_is_told() -> None:
    batch = told(SharedBatch(), *(news(runs("a")) for _ in range(STATELY - 2)))
    batch.update(news(ended=[end(runs("a", generated=9))]))
    delta = batch.delta()
    assert (delta.rows, delta.progress, delta.gone[0].generated) == ([], [], 9)


def test_who_is_no_longer_told_is_gone_without_a_reason() -> None:
    batch = told(SharedBatch(), news(runs("a"), runs("b")))
    batch.update(news(runs("b"), num_running=2))
    (gone,) = batch.delta().gone
    assert (gone.key, gone.reason) == (1, None)


def test_the_queue_is_told_only_where_it_changed() -> None:
    batch = SharedBatch()
    batch.update(news(runs("a"), waiting=[sequence("b")]))
    queue = batch.delta().queue
    assert queue is not None
    assert (queue.running, queue.waiting, queue.waits_for, queue.next) == (1, 1, "slot", (1,))
    batch.update(news(runs("a"), waiting=[sequence("b")], at=5.0))
    assert batch.delta().queue is None


def test_others_are_bars_without_a_name() -> None:
    batch = SharedBatch()
    batch.update(
        news(runs("secret", tenant="key-0", service_class="batch"), runs("b", tenant="key-1"))
    )
    delta = batch.delta()
    for rows in (delta.rows_for("key-1"), batch.snapshot("key-1")):
        other, own = rows
        assert (own.name, own.max_tokens, own.service_class) == ("b", 10, "standard")
        assert (other.name, other.service_class, other.max_tokens) == (None, None, None)
        assert (other.ttft, other.tpot) == (None, None)
        assert (other.slot, other.prompt, other.generated) == (0, 20, 5)
        assert b"secret" not in msgspec.json.encode(rows)


def test_a_flood_is_told_over_several_deltas() -> None:
    batch = SharedBatch()
    crowd = [runs(f"r{n}") for n in range(200)]
    batch.update(news(*crowd))
    sizes = [len(batch.delta().rows) for _ in range(4)]
    assert sizes == [MOST_ROWS, MOST_ROWS, MOST_ROWS, 200 - 3 * MOST_ROWS]
    batch.update(news(ended=[end(each) for each in crowd]))
    gone = []
    while delta := batch.delta():
        if not delta.gone:
            break
        assert len(delta.gone) <= MOST_ENDS
        gone += [each.key for each in delta.gone]
    assert sorted(gone) == list(range(1, 201))
    assert (batch.shown, batch.snapshot("")) == ({}, [])


def test_more_that_come_and_go_than_can_be_shown_take_no_memory() -> None:
    batch = SharedBatch()
    for round_ in range(20):
        batch.update(news(ended=[end(runs(f"r{round_}-{n}")) for n in range(200)]))
        batch.delta()
    kept = (batch._true, batch._tenants, batch._ends)
    assert all(len(each) <= MOST_ENDS + MOST_ROWS for each in kept)
    assert (batch._keys, batch._slots) == ({}, {})


LIVES = st.lists(
    st.tuples(st.integers(0, 11), st.sampled_from(["wait", "run", "end", "hide"])), max_size=30
)


@given(st.lists(LIVES, max_size=12), st.integers(0, 8))
def test_a_snapshot_and_the_deltas_after_it_are_the_batch(
    turns: list[list[tuple[int, str]]], joins_at: int
) -> None:
    """Whoever joins when, and whatever the batch does: all viewers know the same, which is what
    the batch shows; and once nothing changes any more, that is all that is so."""
    batch = SharedBatch()
    viewers = [RowKeeper([])]
    states: dict[int, str] = {}
    lives: dict[int, int] = {}
    for turn, changes in enumerate(turns):
        ended = []
        for number, state in changes:
            name = f"r{number}-{lives.setdefault(number, 0)}"
            if state == "end":
                if states.pop(number, None) in ("run", None):
                    ended.append(end(runs(name), at=float(turn)))
                    lives[number] += 1
            else:
                states[number] = state
        named = {number: f"r{number}-{lives[number]}" for number in states}
        running = [
            runs(named[n], generated=turn % 7) for n, state in states.items() if state == "run"
        ]
        waiting = [sequence(named[n]) for n, state in states.items() if state == "wait"]
        batch.update(news(*running, waiting=waiting, ended=ended, at=float(turn)))
        if turn == joins_at:
            viewers.append(RowKeeper(batch.snapshot("")))
        delta = batch.delta()
        assert len(delta.rows) <= MOST_ROWS
        assert len(delta.progress) <= MOST_PROGRESS
        for viewer in viewers:
            viewer.apply(delta)
            assert viewer.rows == batch.shown
    for _ in range(2 * STATELY):
        delta = batch.delta()
        for viewer in viewers:
            viewer.apply(delta)
            assert viewer.rows == batch.shown
    shown = {row.name for row in batch.shown.values()}
    assert shown == {f"r{n}-{lives[n]}" for n, state in states.items() if state in ("run", "wait")}
    slots = [row.slot for row in batch.shown.values() if row.slot >= 0]
    assert len(set(slots)) == len(slots)
