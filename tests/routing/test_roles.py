"""Roles by hand: who computes a prompt, and who goes on."""

from __future__ import annotations

from dataclasses import replace

from headway.routing import EngineView, RequestShape, RoleRouter, make_router
from headway.types.fleet import Role
from tests.routing.setups import request, token, view_of


def engines(*roles: Role) -> list[EngineView]:
    found = [view_of() for _ in roles]
    for view, role in zip(found, roles, strict=True):
        view.role = role
    return found


def router(*, fixed: bool = False) -> RoleRouter:
    return RoleRouter(make_router("predicted"), fixed)


def begun(prompt: int = 9, tpot: float | None = None) -> RequestShape:
    return replace(request("moved", prompt, tpot=tpot), begun=True, loaded_tokens=prompt - 1)


def test_a_prompt_goes_to_an_engine_for_prompts() -> None:
    views = engines("decode", "prefill")
    assert router().choose(request("a"), views) == 1
    assert router(fixed=True).choose(request("a"), views) == 1


def test_where_it_would_be_late_there_it_goes_where_it_is_not() -> None:
    views = engines("decode", "prefill")
    views[1].sent(request("long", 400))
    asked = request("a", ttft=10.0)
    assert router().choose(asked, views) == 0
    assert router(fixed=True).choose(asked, views) == 1


def test_one_that_asks_for_nothing_leaves_its_role_for_much_sooner() -> None:
    views = engines("decode", "prefill")
    views[1].sent(request("long", 400))
    assert router().choose(request("a"), views) == 0


def test_it_stays_where_others_could_not_keep_its_pace() -> None:
    # Five that decode take 1.125 s; a step that takes 0.8 of the pace is as full as may be.
    for pace, expected in ((1.25, 0), (1.5, 1), (None, 1)):
        views = engines("prefill", "decode")
        for view in views:
            view.by_deadline = True  # prompts hold nobody up
        views[0].sent(request("moved", 8))
        for number in range(4):
            views[1].sent(request(f"{number}", 4))
        assert router().decoder(begun(tpot=pace), 0, views) == expected
        assert router(fixed=True).decoder(begun(tpot=pace), 0, views) == 1


def test_whoever_goes_on_leaves_an_engine_for_prompts_alone() -> None:
    assert router().decoder(begun(), 0, engines("prefill", "decode")) == 1
    assert router().decoder(begun(), 0, engines("both", "decode")) == 0
    assert router().decoder(begun(), 0, engines("prefill", "prefill")) == 0


def test_it_goes_on_where_fewest_are() -> None:
    views = engines("prefill", "decode", "decode")
    for number in range(6):
        views[1].sent(request(f"{number}", 4))
    assert router().decoder(begun(), 0, views) == 2


def test_without_room_elsewhere_it_stays_unless_roles_are_fixed() -> None:
    views = engines("prefill", "decode")
    views[1].sent(request("full", 4090))
    assert router().decoder(begun(), 0, views) == 0
    assert router(fixed=True).decoder(begun(), 0, views) == 1


def test_what_is_loaded_takes_room_though_nobody_computes_it() -> None:
    view = view_of(room=100)
    moved = begun(81)
    view.sent(moved)
    assert view.held == 81
    assert not view.has_room(request("b", 30))
    view.stepped(1.0, 1, [token("moved", cached=80)])
    view.ended(moved)
    assert view.held == 0


def test_without_room_and_without_a_pace_it_stays_too() -> None:
    views = engines("prefill", "decode")
    views[1].sent(request("full", 4090))
    assert router().decoder(begun(tpot=None), 0, views) == 0


def test_a_prompt_leaves_its_role_where_those_for_answers_could_not_hold_all_who_are_live() -> None:
    """Two engines for answers, which both decode faster if they are left alone."""
    for live, expected in ((4, 0), (12, 2)):
        views = engines("prefill", "decode", "decode")
        for view in views:
            view.by_deadline = True
        for number in range(live):
            views[0].sent(request(f"{number}", 4))
        asked = request("a", 4, ttft=60.0, tpot=1.5)
        chosen = router().choose(asked, views)
        assert (chosen == 0) is (expected == 0)
        assert router(fixed=True).choose(asked, views) == 0
