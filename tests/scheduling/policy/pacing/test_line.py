"""Who is held to be on time: what belongs together, what costs nothing, and whom a flood spares."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from headway.scheduling.policy.pacing.line import Line, LineUp, PrefillRate
from headway.types.objectives import Pace
from tests.scheduling.policy.pacing.views import Seen, view_of

NOW = 100.0
SECOND = Pace(ttft=1.0)


def prompt(number: int, tokens: int, *, group: str = "", tenant: str = "", who: str = "") -> Seen:
    """It arrives now, and its first token is due in a second."""
    return Seen(
        id=number,
        todo=tokens,
        arrival=NOW,
        pace=SECOND,
        group=group,
        tenant=tenant,
        caller=who or f"caller {number}",
    )


def lined_up(
    waiting: Sequence[Seen], *, begun: Sequence[Seen] = (), shedding: bool = False
) -> Line:
    """Where 10,000 tokens of prompts are computed in a second."""
    view = view_of(running=begun, waiting=waiting, now=NOW)
    line_up = LineUp(
        view,
        patience=60.0,
        shedding=shedding,
        begun={seq.id for seq in begun},
        rate=lambda: PrefillRate(tokens=10_000, cycle=0.0),
    )
    return line_up.sort([*begun])


def ids(seqs: Sequence[object]) -> set[int]:
    return {seq.id for seq in seqs if isinstance(seq, Seen)}


def continuations(count: int, tokens: int, *, group: str = "one prompt") -> list[Seen]:
    return [prompt(number, tokens, group=group, who="one") for number in range(1, count + 1)]


@pytest.mark.parametrize("shedding", [False, True])
def test_continuations_of_one_prompt_cost_it_once(shedding: bool) -> None:
    line = lined_up([*continuations(8, 4000), prompt(9, 5000)], shedding=shedding)
    assert ids(line.on_time) == {*range(1, 10)}
    several = lined_up([*continuations(8, 4000, group=""), prompt(9, 5000)], shedding=shedding)
    assert ids(several.on_time) == {9}


def test_a_prompt_that_is_being_computed_costs_its_other_continuations_nothing() -> None:
    first, *others = continuations(8, 4000)
    line = lined_up([*others, prompt(9, 5000)], begun=[first])
    assert ids(line.on_time) == {*range(1, 10)}


@pytest.mark.parametrize("shedding", [False, True])
def test_what_one_request_asks_for_is_on_time_as_a_whole_or_not_at_all(
    shedding: bool,
) -> None:
    """Each of two prompts could be on time alone."""
    line = lined_up([prompt(1, 6000, who="one"), prompt(2, 6000, who="one")], shedding=shedding)
    assert (line.shed if shedding else line.relegate) == [1, 2]
    of_two = lined_up([prompt(1, 6000), prompt(2, 6000)])
    assert len(of_two.on_time) == 1
    assert not of_two.relegate


def test_who_could_not_be_on_time_even_alone_is_relegated_at_once() -> None:
    line = lined_up([prompt(1, 11_000), prompt(2, 9000)])
    assert line.relegate == [1]
    assert ids(line.on_time) == {2}


@pytest.mark.parametrize("shedding", [False, True])
def test_a_hopeless_prompt_beside_a_flood_of_another_tenant_keeps_its_place(
    shedding: bool,
) -> None:
    """It is late by no fault of its own; those of the flood are."""
    flood = [prompt(number, 100, tenant="flood") for number in range(2, 8)]
    hopeless = prompt(8, 11_000, tenant="flood")
    line = lined_up([prompt(1, 11_000, tenant="few"), *flood, hopeless], shedding=shedding)
    assert 1 in ids(line.on_time)
    assert line.relegate + line.shed == [8]


def test_the_flood_is_left_out_before_a_longer_prompt_of_another_tenant() -> None:
    flood = [prompt(number, 3000, tenant="flood") for number in (2, 3)]
    line = lined_up([*flood, prompt(1, 6000, tenant="few")])
    assert 1 in ids(line.on_time)
    assert len(line.on_time) == 2
