"""What an engine tells whoever watches its batch."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from headway.engine.loop import Engine
from headway.types.batch_news import MOST_ENDED_TOLD, MOST_WAITING_TOLD, BatchNews
from headway.types.objectives import parse_objectives
from tests.scheduling.harness import EngineHarness, limits_of, make_harness, request_of


def watched_harness(interval: float = 0.0, **options: object) -> EngineHarness:
    harness = make_harness(**options)  # type: ignore[arg-type]
    harness.engine.watch(interval)
    return harness


def is_watched(harness: EngineHarness) -> bool:
    return harness.engine.batch_watch is not None


def told(harness: EngineHarness) -> BatchNews:
    news = taken(harness.engine, harness.clock.seconds)
    assert news is not None
    return news


def taken(engine: Engine, now: float) -> BatchNews | None:
    assert engine.batch_watch is not None
    return engine.batch_watch.take(now)


def names(news: BatchNews) -> tuple[list[str], list[str], list[str]]:
    return (
        [seq.id for seq in news.running],
        [seq.id for seq in news.waiting],
        [end.last.id for end in news.ended],
    )


def test_nothing_is_kept_while_nobody_watches() -> None:
    harness = make_harness()
    harness.add(request_of())
    harness.step()
    assert not is_watched(harness)
    harness.engine.watch(0.5)
    assert is_watched(harness)
    harness.engine.watch(None)
    assert not is_watched(harness)
    assert harness.engine._observers == []
    harness.drain()


def test_who_was_there_before_the_watch_is_told() -> None:
    harness = make_harness()
    harness.add(request_of("a", max_tokens=3))
    harness.step()
    harness.engine.watch(0.0)
    assert names(told(harness)) == (["a"], [], [])
    harness.drain()
    assert names(told(harness)) == ([], [], ["a"])


def test_a_request_is_told_from_its_arrival_to_its_end() -> None:
    harness = watched_harness(limits=limits_of(tokens=4))
    objectives = parse_objectives("ttft=2s,tpot=50ms")
    harness.clock.seconds = 7.0
    harness.add(request_of("a", prompt=(1, 2, 3, 4, 5, 6), max_tokens=2, objectives=objectives))
    (waits,) = told(harness).waiting
    assert (waits.prompt, waits.max_tokens, waits.scheduled_at) == (6, 2, None)
    assert (waits.ttft, waits.tpot, waits.service_class) == (2.0, 0.05, "standard")
    harness.step()
    (prefills,) = told(harness).running
    assert (prefills.computed, prefills.generated, prefills.scheduled_at) == (4, 0, 7.0)
    assert prefills.first_token_at is None
    harness.step()
    (decodes,) = told(harness).running
    assert (decodes.computed, decodes.generated, decodes.first_token_at) == (6, 1, 8.0)
    harness.step()
    (end,) = told(harness).ended
    assert (end.last.id, end.last.generated, end.at, end.reason) == ("a", 2, 9.0, "length")


def test_what_comes_and_goes_between_two_news_is_told() -> None:
    harness = watched_harness(interval=10.0)
    assert names(told(harness)) == ([], [], [])
    harness.add(request_of("a", max_tokens=1))
    harness.drain()
    assert taken(harness.engine, 9.9) is None
    harness.clock.seconds = 10.0
    assert names(told(harness)) == ([], [], ["a"])


def test_aborts_and_refusals_are_ends() -> None:
    harness = watched_harness()
    harness.add(request_of("a"), request_of("b"))
    harness.abort("b")
    news = told(harness)
    assert [(end.last.id, end.reason) for end in news.ended] == [("b", "abort")]
    # What is refused as it comes was never in the batch.
    harness.add(request_of("c", prompt=()))
    assert taken(harness.engine, 1.0) is None


def test_news_are_told_once_and_not_more_often_than_asked() -> None:
    harness = watched_harness(interval=2.5)
    watch = harness.engine.batch_watch
    assert watch is not None
    assert watch.due_in(0.0) == 0.0
    told(harness)
    assert watch.due_in(0.0) is None
    harness.add(request_of("a", max_tokens=9))
    assert watch.due_in(0.5) == 2.0
    assert watch.take(0.5) is None
    assert watch.take(2.5) is not None
    assert watch.due_in(99.0) is None


def test_it_says_what_the_next_in_the_queue_waits_for() -> None:
    slots = watched_harness(limits=limits_of(seqs=1))
    assert told(slots).waits_for is None
    slots.add(request_of("a", max_tokens=9), request_of("b"))
    slots.step()
    assert told(slots).waits_for == "slot"

    memory = watched_harness(blocks=8, reserve_all=True)
    memory.add(request_of("a", max_tokens=24), request_of("b", max_tokens=24))
    memory.step()
    assert (told(memory).num_running, memory.scheduler.waits_for) == (1, "memory")

    policy = watched_harness(policy="static", limits=limits_of(seqs=2))
    policy.add(request_of("a", max_tokens=1), request_of("b", max_tokens=9), request_of("c"))
    policy.step()
    assert told(policy).waits_for == "step"  # "a" has ended.
    policy.step()
    assert told(policy).waits_for == "policy"


def test_news_are_bounded_and_the_numbers_count_all() -> None:
    harness = watched_harness(limits=limits_of(seqs=2))
    total = MOST_WAITING_TOLD + MOST_ENDED_TOLD + 20
    harness.add(*(request_of(f"r{number}") for number in range(total)))
    news = told(harness)
    assert (len(news.waiting), news.num_waiting) == (MOST_WAITING_TOLD, total)
    for number in range(MOST_ENDED_TOLD + 10):
        harness.abort(f"r{number}")
    ended = told(harness).ended
    assert len(ended) == MOST_ENDED_TOLD
    assert ended[-1].last.id == f"r{MOST_ENDED_TOLD + 9}"


ACTIONS = st.lists(st.sampled_from(["add", "step", "step", "abort", "tell"]), max_size=40)


@given(ACTIONS, st.integers(1, 3))
def test_every_request_is_told_to_end_exactly_once(actions: list[str], seqs: int) -> None:
    harness = watched_harness(limits=limits_of(seqs=seqs, tokens=8), blocks=12)
    added: list[str] = []
    ended: list[str] = []
    for action in [*actions, "tell"]:
        if action == "add":
            added.append(f"r{len(added)}")
            harness.add(request_of(added[-1], prompt=(1, 2, 3), max_tokens=4))
        elif action == "step" and harness.engine.has_work:
            harness.step()
        elif action == "abort" and added:
            harness.abort(added[len(added) // 2])
        elif action == "tell":
            news = taken(harness.engine, harness.clock.seconds)
            if news is not None:
                ended += [end.last.id for end in news.ended]
                live = {*names(news)[0], *names(news)[1]}
                assert live == set(harness.scheduler.queues.by_request)
    harness.drain()
    news = taken(harness.engine, harness.clock.seconds)
    ended += [] if news is None else [end.last.id for end in news.ended]
    assert sorted(ended) == sorted(added)
    assert harness.engine.batch_watch is not None
    assert harness.engine.batch_watch._live == {}
