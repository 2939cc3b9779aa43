"""When the supervisor tries again, and when it gives up."""

from __future__ import annotations

from headway.client.restarts import HEALTHY_SECONDS, MAX_DEATHS, MonotonicStats, RestartPolicy
from headway.wire import EngineStats


def idle_death(
    policy: RestartPolicy, *, lifetime: float = 1.0, useful: bool = False
) -> float | None:
    return policy.died(lifetime=lifetime, useful=useful, explained=False)


def test_waits_grow_until_there_is_no_next_time() -> None:
    policy = RestartPolicy()
    assert [idle_death(policy) for _ in range(MAX_DEATHS)] == [0.0, 0.5, 1.0, 2.0, None]


def test_useful_or_long_lives_make_up_for_earlier_deaths() -> None:
    policy = RestartPolicy()
    for _ in range(MAX_DEATHS * 2):
        assert idle_death(policy, useful=True) == 0.0
        assert idle_death(policy, lifetime=HEALTHY_SECONDS) == 0.0


def test_deaths_that_requests_explain_do_not_count() -> None:
    policy = RestartPolicy()
    for _ in range(MAX_DEATHS * 2):
        assert policy.died(lifetime=0.1, useful=False, explained=True) == 0.0


def test_counters_go_on_and_gauges_start_again() -> None:
    stats = MonotonicStats()
    stats.update(EngineStats(step=5, preemptions=1, running=3, free_blocks=9, busy_seconds=0.5))
    assert stats.engine_died() == EngineStats(step=5, preemptions=1, busy_seconds=0.5)
    assert stats.update(EngineStats(step=2, running=1)).step == 7
    stats.engine_died()
    last = EngineStats(step=8, preemptions=1, busy_seconds=0.75)
    assert stats.update(EngineStats(step=1, busy_seconds=0.25)) == last


def test_drafts_are_counted_over_restarts_place_by_place() -> None:
    stats = MonotonicStats()
    stats.update(EngineStats(drafts=3, draft_tokens=6, accepted_per_position=(3, 1)))
    assert stats.engine_died().accepted_per_position == (3, 1)
    now = stats.update(EngineStats(drafts=1, draft_tokens=3, accepted_per_position=(1, 1, 1)))
    assert (now.drafts, now.draft_tokens, now.accepted_per_position) == (4, 9, (4, 2, 1))
    assert stats.update(EngineStats()).accepted_per_position == (3, 1)
