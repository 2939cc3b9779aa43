"""The loop itself: refusals become events, idleness is passed on, the figures are the step's."""

from __future__ import annotations

from headway.scheduling.stats import Idle
from tests.scheduling.harness import limits_of, make_harness, request_of


def test_a_refusal_is_an_event_and_leaves_nothing_behind() -> None:
    harness = make_harness()
    (event,) = harness.engine.add(request_of(prompt=()))
    assert (event.id, event.finish, event.error) == ("a", "error", "the prompt is empty")
    assert not harness.engine.has_work


def test_an_empty_engine_is_idle_until_somebody_comes() -> None:
    assert make_harness().engine.step() == Idle(until=None)


def test_an_abort_is_heard_once() -> None:
    harness = make_harness()
    harness.add(request_of())
    harness.step()
    (event,) = harness.engine.abort("a")
    assert event.finish == "abort"
    assert harness.engine.abort("a") == []
    assert harness.engine.stats().running == 0


def test_stats_are_those_of_the_last_step() -> None:
    harness = make_harness(blocks=8)
    harness.add(request_of(prompt=(1, 2, 3, 4, 5), max_tokens=3))
    harness.step()
    stats = harness.engine.stats()
    assert (stats.step, stats.running, stats.step_tokens, stats.computed_tokens) == (1, 1, 5, 5)
    assert (stats.free_blocks, stats.cached_blocks, stats.step_seconds) == (6, 0, 0.5)
    harness.step()
    assert harness.engine.stats().step_tokens == 1


def test_who_waits_for_room_is_not_deferred() -> None:
    harness = make_harness("continuous", limits=limits_of(seqs=2))
    harness.add(*(request_of(name, max_tokens=3) for name in "abc"))
    harness.step()
    stats = harness.engine.stats()
    assert (stats.running, stats.waiting, stats.deferred) == (2, 1, 0)


def test_a_static_batch_defers_as_many_as_have_idle_slots() -> None:
    harness = make_harness("static", limits=limits_of(seqs=2))
    harness.add(request_of("a", max_tokens=1), request_of("b", max_tokens=9))
    harness.add(request_of("c"), request_of("d"))
    harness.step()
    assert (harness.engine.stats().waiting, harness.engine.stats().deferred) == (2, 0)
    harness.step()
    stats = harness.engine.stats()
    assert (stats.running, stats.waiting, stats.deferred) == (1, 2, 1)


def test_a_dynamic_batch_that_fills_defers_all() -> None:
    harness = make_harness("dynamic", wait=3.0)
    harness.add(request_of("a"), request_of("b"))
    assert harness.engine.step() == Idle(until=3.0)
    assert (harness.engine.stats().waiting, harness.engine.stats().deferred) == (2, 2)
    harness.clock.seconds = 3.0
    harness.step()
    assert harness.engine.stats().deferred == 0


def test_the_first_event_says_when_it_was_scheduled() -> None:
    harness = make_harness()
    harness.clock.seconds = 7.0
    harness.add(request_of())
    harness.drain()
    assert harness.firsts["a"].scheduled_at == 7.0
