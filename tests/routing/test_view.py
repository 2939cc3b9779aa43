"""What is known of an engine: by hand, and that sums stay right whatever happens in which order."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headway.routing import EngineView, PromptPrefix, RequestShape
from headway.routing.step_costs import pairs_of
from headway.routing.view import LATELY, ROOM
from headway.types.engine import PolicyConfig
from tests.perf.sim.setups import scheduler_config
from tests.routing.setups import BY_HAND, request, token, view_of


def ttft(view: EngineView, asked: RequestShape) -> float:
    return view.forecast(asked)[0]


def test_a_view_counts_what_was_sent_and_has_not_ended() -> None:
    view = view_of()
    first, second = request("a"), request("b")
    view.sent(first)
    view.sent(second)
    view.ended(first)
    view.ended(first)
    assert (view.requests, view.held) == (1, 8)
    view.ended(second)
    assert (view.requests, view.held, view.queue) == (0, 0, 0.0)


def test_of_a_request_it_is_known_whether_its_first_token_has_come() -> None:
    view = view_of()
    view.sent(request("a"))
    assert (view.decoding("a"), view.decoding("b")) == (False, None)
    view.stepped(1.0, 8, [token("a")])
    assert view.decoding("a") is True
    view.ended(request("a"))
    assert view.decoding("a") is None


def test_prompts_of_lately_count_the_less_the_longer_ago() -> None:
    view = view_of()
    assert view.tpot(LATELY / 3) == view.widest, "steps with prompts give tokens too"
    assert view.tpot(LATELY * 2 / 3) == pytest.approx(2 * view.widest)
    view.sent(request("a", prompt=8, at=10.0))  # of 2 s
    assert view.lately == 2.0
    assert view.tpot(LATELY * 2 / 3 - 2) == pytest.approx(2 * view.widest)
    assert view.tpot(LATELY - 2) == math.inf
    assert view_of(by_deadline=True).tpot(9.0) == view.widest
    view.stepped(10.0 + LATELY, 8, [token("a")])
    assert view.lately == pytest.approx(2 / math.e)
    view.stepped(9.0, 0, [])
    assert view.lately == pytest.approx(2 / math.e), "time does not run backwards"
    view.sent(request("b", prompt=4, at=10.0 + 2 * LATELY))
    assert view.lately == pytest.approx(2 / math.e**2 + 1)
    view.prefixes.note([PromptPrefix(b"p", 8)])
    view.sent(request("c", prompt=12, at=0.0, prefixes=[(b"p", 8)]))
    assert view.lately == pytest.approx(2 / math.e**2 + 2), "what is cached holds nobody up"
    for name in "abc":
        view.ended(request(name))
    assert view.lately == 0.0, "nobody is left who was held up"


def test_an_id_that_is_sent_again_counts_once() -> None:
    view = view_of()
    view.sent(request("a"))
    view.sent(request("a", prompt=3))
    assert (view.requests, view.held) == (1, 3)


def test_an_idle_engine_takes_the_prompt_and_a_step() -> None:
    assert view_of().forecast(request(prompt=8)) == (8 * 0.25 * (1 + 0.5 / 4) + 0.5, 2.0)


def test_the_rest_of_the_step_under_way_is_waited_for() -> None:
    view = view_of()
    view.sent(request("a", prompt=8, at=10.0))  # 2 s of prompt and half a second
    assert view.step_ends == 12.5
    alone = ttft(view_of(), request(at=11.0))
    assert ttft(view, request(at=11.0)) == pytest.approx(1.5 + alone)
    # Nobody knows why it takes longer; there is no rest to wait for.
    assert ttft(view, request(at=20.0)) == pytest.approx(alone)


def test_prompts_ahead_are_waited_for_but_not_what_the_step_under_way_computes() -> None:
    view = view_of(most_tokens=16)
    view.sent(request("a", prompt=24, at=0.0))  # of which this step computes 16
    assert view.queue == pytest.approx(8 * 0.25 * view.slowdown)
    view.sent(request("b", prompt=4, at=0.0))
    assert view.queue == pytest.approx(12 * 0.25 * view.slowdown)


def test_steps_tell_how_far_prompts_are_before_their_first_token() -> None:
    view = view_of(most_tokens=16)
    view.sent(request("a", prompt=40, at=0.0))
    view.stepped(4.5, 16, [])
    assert view.queue == pytest.approx(8 * 0.25 * view.slowdown)
    view.stepped(9.0, 16, [])
    assert view.queue == 0.0
    assert view.step_ends == 9.0 + 8 * 0.25 + 0.5
    view.stepped(11.5, 8, [token("a")])
    assert (view.decodes, view.held) == (1, 41)


def test_decodes_beside_prompts_are_no_progress_of_these() -> None:
    view = view_of(most_tokens=20)
    view.sent(request("a", prompt=4))
    view.stepped(1.5, 4, [token("a")])
    view.sent(request("b", prompt=40, at=1.5))
    # A decode with two drafts, one of which was right, computes three tokens.
    view.stepped(6.0, 3 + 13, [token("a", count=2, drafts=2)])
    left = 40 - 13 - 19
    assert view.queue == pytest.approx(left * 0.25 * view.slowdown)


def test_the_first_token_tells_what_was_cached() -> None:
    view = view_of()
    known = [(b"p", 64)]
    view.sent(request("a", prompt=80, prefixes=known))
    view.sent(request("b", prompt=80, prefixes=known))
    assert view.held == 80 + 16
    view.stepped(9.0, 160, [token("a"), token("b", cached=0)])
    assert view.held == 81 + 81


def test_what_is_cached_need_not_be_computed() -> None:
    view = view_of(most_tokens=1000)
    view.sent(request("a", prompt=80, prefixes=[(b"p", 64)]))
    view.stepped(9.0, 80, [token("a")])
    view.ended(request("a"))
    assert view.forecast(request(at=99.0, prompt=80, prefixes=[(b"p", 64)]))[1] == 16 * 0.25
    assert view.forecast(request(at=99.0, prompt=80, prefixes=[(b"q", 64)]))[1] == 80 * 0.25


def test_streams_slow_prompts_down_where_they_keep_their_pace() -> None:
    paced, unpaced = (view_of(by_deadline=each, most_tokens=64) for each in (True, False))
    for view in (paced, unpaced):
        view.sent(request("a", prompt=4, tpot=6.625))
        view.stepped(1.5, 4, [token("a")])
    # A step may take 6.625 s, of which the decode and what is fixed take 0.625.
    assert paced.slowdown == pytest.approx(1 + 0.625 / 6)
    assert unpaced.slowdown == pytest.approx(1 + 0.625 / (63 * 0.25))
    paced.ended(request("a"))
    assert paced.slowdown == pytest.approx(1 + 0.5 / (64 * 0.25))


def test_those_that_are_late_let_others_pass_where_deadlines_decide() -> None:
    late = request("a", prompt=400, ttft=1.0)
    by_deadline, in_order = view_of(by_deadline=True), view_of()
    for view in (by_deadline, in_order):
        view.sent(request("0", prompt=4, ttft=9.0))
        view.sent(late)
    assert by_deadline.queue == 0.0
    assert by_deadline.whole_queue == pytest.approx(in_order.queue)
    # One that asks for nothing goes behind them as well.
    assert ttft(by_deadline, request()) > 100.0
    assert ttft(by_deadline, request(ttft=9.0)) < 9.0


def test_without_memory_a_request_waits_for_others_to_end() -> None:
    small, large = view_of(room=100), view_of()
    for view in (small, large):
        view.sent(request("a", prompt=90))
        view.sent(request("b", prompt=2))
        view.stepped(8.0, 92, [token("a"), token("b")])
        view.stepped(8.5, 2, [token("a"), token("b")])
        view.ended(request("b"))
    wait = ttft(small, request(at=99.0, prompt=60)) - ttft(large, request(at=99.0, prompt=60))
    assert wait == pytest.approx(0.5 * (92 + 60 - 100) / 100)


def test_without_a_slot_a_request_waits_for_others_to_end() -> None:
    views = [view_of(), view_of()]
    views[0].slots = 2
    for view in views:
        for name in ("0", "a", "b"):
            view.sent(request(name, prompt=4))
        view.stepped(3.0, 12, [token("0"), token("a"), token("b")])
        view.stepped(9.0, 3, [token("0"), token("a"), token("b")])
        view.ended(request("0"))
    few, many = (ttft(view, request(at=99.0)) for view in views)
    assert few - many == pytest.approx(6.0 * 1 / 2)


def test_new_costs_count_for_what_waits_already() -> None:
    view = view_of()
    view.sent(request("a", prompt=24))
    before = view.queue
    view.learn(replace(BY_HAND, token=0.5))
    assert view.queue > before


def test_a_view_of_an_engine_has_its_limits() -> None:
    config = scheduler_config("paced")
    view = EngineView.of(config, BY_HAND)
    assert (view.room, view.slots, view.most_tokens) == (64 * 4, 8, 64)
    assert (view.by_deadline, view.predicts, view.prefixes.room) == (True, True, 256)
    other = EngineView.of(replace(config, policy=PolicyConfig(name="static")))
    assert (other.by_deadline, other.predicts) == (False, False)
    assert EngineView().room == ROOM


Move = tuple[Any, ...]
NAMES = st.sampled_from("abcde")
PREFIXES = st.sampled_from([(), ((b"p", 8),), ((b"p", 8), (b"pq", 16)), ((b"x", 8),)])
MOVES: st.SearchStrategy[list[Move]] = st.lists(
    st.one_of(
        st.tuples(
            st.just("sent"),
            NAMES,
            st.integers(17, 60),
            PREFIXES,
            st.sampled_from([None, 0.5, 9.0]),
            st.sampled_from([None, 1.0, 2.0]),
        ),
        st.tuples(st.just("ended"), NAMES),
        st.tuples(
            st.just("stepped"),
            st.integers(0, 90),
            st.lists(
                st.tuples(NAMES, st.integers(0, 3), st.integers(0, 16), st.integers(0, 2)),
                max_size=4,
                unique_by=lambda each: each[0],
            ),
        ),
    ),
    max_size=40,
)


def moved(view: EngineView, moves: list[Move], check: Callable[[], None]) -> None:
    now = 0.0
    for what, *values in moves:
        now += 0.75
        if what == "sent":
            name, prompt, prefixes, first, pace = values
            view.sent(request(name, prompt, at=now, prefixes=prefixes, ttft=first, tpot=pace))
        elif what == "ended":
            view.ended(request(values[0]))
        else:
            events = [
                token(name, count=count, cached=cached, drafts=drafts)
                for name, count, cached, drafts in values[1]
            ]
            view.stepped(now, values[0], events)
        check()


@settings(max_examples=200, deadline=None)
@given(moves=MOVES, by_deadline=st.booleans())
def test_sums_are_those_of_the_requests_after_anything(
    moves: list[Move], by_deadline: bool
) -> None:
    view = view_of(by_deadline=by_deadline, room=200)

    def check() -> None:
        sent = list(view._sent.values())
        waiting = [one for one in sent if one.waits]
        decoding = [one for one in sent if not one.waits]
        assert (view.requests, view.decodes) == (len(sent), len(decoding))
        assert view.held == sum(one.uncached + one.generated for one in sent)
        assert view.contexts == sum(one.shape.prompt_tokens + one.generated for one in sent)
        assert view._context == sum(one.shape.prompt_tokens + one.generated for one in decoding)
        for backlog, late in ((view._late, True), (view._on_time, False)):
            own = [one for one in waiting if one.late == late]
            assert backlog.requests == len(own)
            assert backlog.tokens == sum(one.uncached for one in own)
            assert backlog.pairs == sum(
                pairs_of(one.uncached, one.shape.prompt_tokens - one.uncached) for one in own
            )
        assert 0 <= view._done <= view._late.tokens + view._on_time.tokens
        assert 0.0 <= view.queue <= view.whole_queue
        assert sum(view._paces.values()) == sum(one.shape.pace.tpot < 9 for one in sent)
        assert ttft(view, request(at=1e9)) > 0.0

    moved(view, moves, check)
    for name in "abcde":
        view.ended(request(name))
    assert (view.requests, view.decodes, view.held, view._done) == (0, 0, 0, 0)
    assert (view.queue, view.whole_queue, view._paces) == (0.0, 0.0, {})


def test_a_step_of_decodes_alone_takes_what_the_model_says() -> None:
    view = view_of()
    view.sent(request("a", prompt=4))
    view.stepped(1.5, 4, [token("a")])
    assert view.step_ends == 1.5 + BY_HAND.least
