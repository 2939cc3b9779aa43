"""The loop itself: refusals become events, idleness is passed on, the figures are the step's."""

from __future__ import annotations

from headway.scheduling.stats import Idle
from tests.scheduling.house import make_house, request_of


def test_a_refusal_is_an_event_and_leaves_nothing_behind() -> None:
    house = make_house()
    (event,) = house.engine.add(request_of(prompt=()))
    assert (event.id, event.finish, event.error) == ("a", "error", "the prompt is empty")
    assert not house.engine.has_work


def test_an_empty_engine_is_idle_until_somebody_comes() -> None:
    assert make_house().engine.step() == Idle(until=None)


def test_an_abort_is_heard_once() -> None:
    house = make_house()
    house.add(request_of())
    house.step()
    (event,) = house.engine.abort("a")
    assert event.finish == "abort"
    assert house.engine.abort("a") == []
    assert house.engine.stats().running == 0


def test_stats_are_those_of_the_last_step() -> None:
    house = make_house(blocks=8)
    house.add(request_of(prompt=(1, 2, 3, 4, 5), max_tokens=3))
    house.step()
    stats = house.engine.stats()
    assert (stats.step, stats.running, stats.step_tokens, stats.computed_tokens) == (1, 1, 5, 5)
    assert (stats.free_blocks, stats.cached_blocks, stats.step_seconds) == (6, 0, 0.5)
    house.step()
    assert house.engine.stats().step_tokens == 1


def test_the_first_event_says_when_it_was_scheduled() -> None:
    house = make_house()
    house.clock.seconds = 7.0
    house.add(request_of())
    house.drain()
    assert house.firsts["a"].scheduled_at == 7.0
