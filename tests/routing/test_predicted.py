"""The router `predicted`: where a request is soonest, on time, and does least harm."""

from __future__ import annotations

from headway.routing import EngineView, RequestShape, make_router
from headway.routing.predicted import PATIENCE
from headway.routing.view import EngineView as View
from tests.routing.setups import BY_HAND, request, token, view_of


def choose(views: list[EngineView], asked: RequestShape) -> int:
    return make_router("predicted").choose(asked, views)


def with_prompts(*tokens: int, by_deadline: bool = False) -> list[EngineView]:
    """An engine for each number, which has a prompt of so many tokens to compute."""
    views = [view_of(by_deadline=by_deadline) for _ in tokens]
    for view, count in zip(views, tokens, strict=True):
        if count:
            view.sent(request("ahead", prompt=count, ttft=1e6))
    return views


def decoding(view: EngineView, count: int) -> EngineView:
    names = [f"decode {number}" for number in range(count)]
    for name in names:
        view.sent(request(name, prompt=4))
    view.stepped(1.0, 4 * count, [token(name) for name in names])
    return view


def test_tokens_ahead_count_and_not_requests() -> None:
    views = with_prompts(200, 0)
    for number in range(6):
        views[1].sent(request(str(number), prompt=4))
    assert choose(views, request()) == 1


def test_the_end_of_a_step_that_is_nearer_is_waited_for() -> None:
    views = with_prompts(16, 16)
    views[1].stepped(3.0, 16, [token("ahead")])
    views[0].stepped(3.5, 16, [token("ahead")])
    assert choose(views, request(at=3.75)) == 1


def test_a_cached_prefix_is_worth_the_prompts_that_it_saves() -> None:
    asked = request(prompt=80, prefixes=[(b"p", 64)])
    for ahead, expected in ((40, 0), (120, 1)):
        views = with_prompts(ahead, 0)
        views[0].prefixes.note(asked.prefixes)
        assert choose(views, asked) == expected


def test_those_that_decode_are_disturbed_as_little_as_can_be() -> None:
    views = [decoding(view_of(), 8), decoding(view_of(), 2)]
    assert choose(views, request(at=50.0)) == 1


def test_an_engine_where_it_is_on_time_is_better_than_one_that_costs_less() -> None:
    # The second is later by the prompt ahead, but has nobody to disturb.
    views = [decoding(view_of(), 8), view_of()]
    views[1].sent(request("ahead", prompt=24, at=50.0))
    tight = views[0].forecast(request(prompt=16, at=50.0))[0] + 0.5
    assert choose(views, request(prompt=16, at=50.0)) == 1
    assert choose(views, request(prompt=16, at=50.0, ttft=tight)) == 0


def test_a_batch_that_is_too_wide_for_its_pace_is_kept_clear_of() -> None:
    wide, long = decoding(view_of(by_deadline=True), 8), view_of(by_deadline=True)
    long.sent(request("ahead", prompt=64, at=50.0, ttft=1e6))
    assert choose([wide, long], request(at=50.0, ttft=99.0, tpot=9.0)) == 0
    assert choose([wide, long], request(at=50.0, ttft=99.0, tpot=1.25)) == 1


def with_ahead(*, by_deadline: bool, lately: float) -> list[EngineView]:
    """Two that decode as much: to the first came so many seconds of prompts lately, the second has
    one to compute."""
    views = [decoding(view_of(by_deadline=by_deadline), 8) for _ in range(2)]
    views[1].sent(request("ahead", prompt=4, at=2.0, ttft=1e6))
    views[0].lately, views[1].lately = lately, 0.0
    return views


def test_where_prompts_come_one_after_another_decodes_keep_no_pace() -> None:
    pace = 2 * decoding(view_of(), 8).widest
    for lately, by_deadline, expected in ((1.0, False, 0), (3.5, False, 1), (3.5, True, 0)):
        views = with_ahead(by_deadline=by_deadline, lately=lately)
        assert choose(views, request(prompt=1, at=9.0, ttft=99.0)) == 0
        assert choose(views, request(prompt=1, at=9.0, ttft=99.0, tpot=pace)) == expected


def test_prompts_are_spread_where_engines_do_not_keep_the_pace_of_streams() -> None:
    # Eight streams are held up by 2 s each; and the first ones by 3 s before.
    asked = request(prompt=8, at=9.0)
    for lately, by_deadline, expected in ((0.0, False, 0), (3.0, False, 1), (3.0, True, 0)):
        views = with_ahead(by_deadline=by_deadline, lately=lately)
        assert choose(views, asked) == expected


def test_one_that_is_late_everywhere_goes_where_all_are_late() -> None:
    # In the order of arrival: the second engine is given up, so that the others recover.
    assert choose(with_prompts(40, 80, 24), request(ttft=2.0)) == 1
    # But nobody waits for ever.
    endless = int(2 * PATIENCE / BY_HAND.token)
    assert choose(with_prompts(40, endless, 80), request(ttft=2.0)) == 2


def test_one_that_is_too_long_for_its_time_disturbs_as_few_as_it_can() -> None:
    # No engine is given up: whoever is shorter is on time on both.
    views = [decoding(view_of(), 6), decoding(view_of(), 1)]
    assert choose(views, request(at=50.0, prompt=400, ttft=9.0)) == 1


def test_where_deadlines_decide_a_late_one_takes_little_from_few() -> None:
    views = with_prompts(400, 400, 800, by_deadline=True)
    views[0].sent(request("another", prompt=40))
    views[1].sent(request("another", prompt=40))
    asked = request(prompt=80, ttft=2.0, prefixes=[(b"p", 64)])
    assert choose(views, asked) == 2, "of equal work, from one rather than from two"
    views[0].prefixes.note(asked.prefixes)
    assert choose(views, asked) == 0, "a fifth of the work, from two"
    for number in range(20):
        views[0].sent(request(str(number), prompt=4))
    assert choose(views, asked) == 2, "a fifth of the work, from twenty"
    assert choose(views, request(prompt=80, ttft=1e6, prefixes=[(b"p", 64)])) == 0


def test_without_costs_it_only_compares() -> None:
    views = [View(), View()]
    views[0].sent(request("a", prompt=9000))
    assert choose(views, request(ttft=1e-6)) == 1
