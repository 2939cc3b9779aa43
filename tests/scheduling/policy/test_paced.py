"""Paced batching keeps what it promises, where it can, and says whom it cannot serve in time."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headway.errors import InvalidRequest
from headway.scheduling.policy.base import Decision, Policy, SequenceView, View
from headway.scheduling.policy.continuous import Continuous
from headway.scheduling.policy.paced import Overload, Paced
from headway.scheduling.policy.pacing.line import LOOKED_AT
from headway.scheduling.policy.pacing.step import PacedStep
from headway.scheduling.speculation.paying import PayingDrafts
from headway.scheduling.speculation.speculation import Speculation
from headway.steptime.online import StepTimes
from headway.types import Limits, Request, ServiceClass
from headway.types.objectives import Objective, parse_objectives
from tests.scheduling.harness import limits_of, request_of
from tests.scheduling.policy.pacing.timed import TOKEN, Ran, run
from tests.scheduling.policy.pacing.views import LinearTimes
from tests.scheduling.proposers import Fixed

LIMITS = limits_of(seqs=256, tokens=8192, partial=1, model_len=8192)
TIMES = LinearTimes()
"""A step of n tokens takes 10 ms and n / 10 ms more."""
SLO = parse_objectives("ttft=1s,tpot=30ms")


def asked(
    number: int,
    *,
    prompt: int = 100,
    output: int = 20,
    arrival: float = 0.0,
    objectives: tuple[Objective, ...] = SLO,
    tenant: str = "",
    service_class: ServiceClass = "standard",
) -> Request:
    request = request_of(
        str(number),
        prompt=(number % 5000,) * prompt,
        max_tokens=output,
        arrival=arrival,
        objectives=objectives,
        tenant=tenant,
    )
    return replace(request, service_class=service_class, caller=f"caller {number}")


def paced(requests: list[Request], *, limits: Limits = LIMITS, **options: object) -> Ran:
    return run(requests, Paced(**options), TIMES, limits=limits)  # type: ignore[arg-type]


@st.composite
def workloads(draw: st.DrawFn, *, most: int = 25) -> list[Request]:
    promises = st.sampled_from(
        [
            SLO,
            SLO,
            parse_objectives("tpot=15ms"),
            parse_objectives("ttft=200ms"),
            parse_objectives("e2el=20s"),
            parse_objectives("itl=100ms"),
            (),
        ]
    )
    return [
        asked(
            number,
            prompt=draw(st.integers(1, 3000)),
            output=draw(st.integers(1, 60)),
            arrival=draw(st.floats(0, 3)),
            objectives=draw(promises),
            tenant=draw(st.sampled_from(["", "b"])),
            service_class=draw(st.sampled_from(["interactive", "standard", "batch"])),
        )
        for number in range(draw(st.integers(1, most)))
    ]


@settings(max_examples=40, deadline=None)
@given(workload=workloads())
def test_everybody_is_served_whole_and_every_token_computed_once(workload: list[Request]) -> None:
    ran = paced(workload)
    assert ran.preemptions == 0, "there is memory for all, and lengths are known"
    assert not ran.shed
    for request in workload:
        assert len(ran.tokens[request.id]) == request.sampling.max_tokens
    needed = sum(len(each.prompt) + each.sampling.max_tokens - 1 for each in workload)
    assert ran.computed == needed


@settings(max_examples=40, deadline=None)
@given(workload=workloads(), tokens=st.integers(40, 600), seqs=st.integers(1, 30))
def test_pinned_limits_are_kept(workload: list[Request], tokens: int, seqs: int) -> None:
    limits = limits_of(seqs=seqs, tokens=tokens, partial=1, model_len=8192)
    ran = paced(workload, limits=limits)
    for _, shape, _ in ran.steps:
        assert shape.tokens <= tokens
        assert shape.sequences <= seqs


@settings(max_examples=40, deadline=None)
@given(workload=workloads(), tokens=st.integers(40, 600), partial=st.integers(1, 3))
def test_without_objectives_it_plans_as_continuous_does(
    workload: list[Request], tokens: int, partial: int
) -> None:
    limits = limits_of(seqs=20, tokens=tokens, partial=partial, model_len=8192)
    workload = [replace(request, objectives=()) for request in workload]
    ours = run(workload, Paced(), TIMES, limits=limits)
    theirs = run(
        [replace(request, caller="") for request in workload], Continuous(), TIMES, limits=limits
    )
    alone = run([replace(each, caller="") for each in workload], Paced(), TIMES, limits=limits)
    assert alone.steps == theirs.steps
    assert ours.computed == theirs.computed


@settings(max_examples=40, deadline=None)
@given(workload=workloads())
def test_the_same_requests_get_the_same_plans(workload: list[Request]) -> None:
    assert paced(workload).steps == paced(workload).steps


def overdue(ran: Ran, request: Request, pace: float) -> list[float]:
    """By how much each token after the first came too late."""
    made = ran.tokens[request.id]
    return [at - (made[0] + number * pace) for number, at in enumerate(made)]


@settings(max_examples=30, deadline=None)
@given(
    lengths=st.lists(
        st.tuples(st.integers(1, 6000), st.integers(1, 200), st.floats(0, 2)),
        min_size=1,
        max_size=60,
    )
)
def test_who_began_on_time_stays_on_time(lengths: list[tuple[int, int, float]]) -> None:
    """Exact step times: nobody's pace is missed, whoever else comes."""
    workload = [
        asked(number, prompt=prompt, output=output, arrival=arrival)
        for number, (prompt, output, arrival) in enumerate(lengths)
    ]
    ran = paced(workload, overload="shed")
    for request in workload:
        if request.id in ran.shed:
            assert not ran.tokens[request.id]
            continue
        assert len(ran.tokens[request.id]) == request.sampling.max_tokens
        if ran.ttft(request) <= 1.0:
            assert max(overdue(ran, request, 0.030)) <= 1e-9


@settings(max_examples=30, deadline=None)
@given(
    lengths=st.lists(st.tuples(st.integers(1, 6000), st.integers(1, 200)), min_size=1, max_size=60)
)
def test_who_is_not_shed_is_on_time_if_nobody_comes_later(lengths: list[tuple[int, int]]) -> None:
    workload = [
        asked(number, prompt=prompt, output=output)
        for number, (prompt, output) in enumerate(lengths)
    ]
    ran = paced(workload, overload="shed")
    assert len(ran.shed) < len(workload)
    for request in workload:
        if request.id not in ran.shed:
            assert ran.ttft(request) <= 1.1, "on time, but for the step that was under way"


def test_a_step_is_as_long_as_the_tightest_pace_allows() -> None:
    """Beside one decode a prompt is computed in chunks that take 30 ms, not in one of 400 ms."""
    ran = paced([asked(1, output=100), asked(2, prompt=4000, arrival=0.5)])
    mixed = [seconds for _, shape, seconds in ran.steps if shape.decodes and shape.tokens > 1]
    assert 0.2 * 10 > max(mixed) > 0.028
    assert max(overdue(ran, asked(1), 0.030)) <= 1e-9
    loose = paced(
        [
            asked(1, output=100, objectives=parse_objectives("ttft=1s,tpot=500ms")),
            asked(2, prompt=4000, arrival=0.5),
        ]
    )
    assert max(shape.tokens for _, shape, _ in loose.steps) >= 4000, "one step holds it all"


def test_under_overload_the_costly_ones_are_late_and_the_others_are_not() -> None:
    """In 1 s there is time for about 9,000 prompt tokens; 12 times 1,500 are asked for at once."""
    small = [asked(number, prompt=500) for number in range(10)]
    large = [asked(10 + number, prompt=4000) for number in range(4)]
    ran = paced([*large, *small])
    assert ran.relegated >= 3
    assert all(ran.ttft(each) <= 1.0 for each in small)
    assert sum(ran.ttft(each) > 1.0 for each in large) == ran.relegated


def test_shed_requests_are_told_when_to_come_back() -> None:
    ran = paced([asked(number, prompt=4000) for number in range(10)], overload="shed")
    assert 6 <= len(ran.shed) <= 9
    assert all(0.5 < seconds < 10 for seconds in ran.shed.values())


def test_a_prompt_that_is_mostly_cached_costs_only_the_rest() -> None:
    """Ten prompts of 6,000 tokens within a second, where a second computes some 9,000."""
    shared, slo = (7,) * 5984, parse_objectives("ttft=1s,tpot=200ms")
    first = request_of("first", prompt=shared, max_tokens=1)
    others = [
        request_of(str(number), prompt=(*shared, *[number] * 16), max_tokens=1, objectives=slo)
        for number in range(10)
    ]
    later = [replace(each, arrival=2.0, caller=each.id) for each in others]
    ran = run([first, *later], Paced(overload="shed"), TIMES, limits=LIMITS, prefix_caching=True)
    assert not ran.shed
    assert max(map(ran.ttft, later)) <= 1.0
    unshared = run([first, *later], Paced(overload="shed"), TIMES, limits=LIMITS)
    assert len(unshared.shed) == 9


@settings(max_examples=60, deadline=None)
@given(
    asked_for=st.lists(
        st.tuples(st.integers(1, 4000), st.integers(1, 5), st.floats(0, 2)), min_size=1, max_size=15
    ),
    seqs=st.integers(1, 20),
)
def test_a_request_is_shed_as_a_whole_and_never_once_it_was_answered(
    asked_for: list[tuple[int, int, float]], seqs: int
) -> None:
    """Continuations start when there is a slot, so some may end before the last one starts."""
    limits = limits_of(seqs=seqs, tokens=8192, partial=1, model_len=8192)
    requests = [
        [
            replace(asked(number, prompt=prompt, arrival=arrival), id=f"{number}-{index}")
            for index in range(count)
        ]
        for number, (prompt, count, arrival) in enumerate(asked_for)
    ]
    ran = paced([each for parts in requests for each in parts], limits=limits, overload="shed")
    for parts in requests:
        shed = [each for each in parts if each.id in ran.shed]
        assert not shed or len(shed) == len(parts)
        for each in parts:
            assert len(ran.tokens[each.id]) == (0 if shed else each.sampling.max_tokens)


def test_requests_of_one_user_are_shed_each_for_itself() -> None:
    """They have one caller, and came one after the other."""
    long, short = asked(1, prompt=8000, arrival=0.001), asked(2, prompt=2000, arrival=0.002)
    busy = asked(3, prompt=4000)
    of_one = [replace(each, caller="user") for each in (busy, long, short)]
    ran = paced(of_one, overload="shed")
    assert [*ran.shed] == ["1"]


def test_what_can_never_be_on_time_is_served_all_the_same() -> None:
    impossible = parse_objectives("ttft=1ms,tpot=1ms")
    workload = [asked(number, objectives=impossible) for number in range(30)]
    ran = paced(workload)
    assert all(len(ran.tokens[each.id]) == 20 for each in workload)
    assert ran.steps[-1][0] < 1.5, "a pace that no batch can keep does not make the batch small"


def flooded(*, beside: float, tenant: str = "") -> tuple[Ran, list[Request]]:
    """2 s of twice what can be served, from one tenant, and one request of another each 0.2 s."""
    flood = [
        asked(1000 + number, prompt=1500, output=2, arrival=number * 0.05, tenant="flood")
        for number in range(int(beside / 0.05))
    ]
    few = [
        asked(number, prompt=300, arrival=0.5 + number * 0.2, tenant=tenant) for number in range(8)
    ]
    return paced([*flood, *few]), few


def test_a_tenant_that_floods_delays_no_other() -> None:
    alone, few = flooded(beside=0.0, tenant="few")
    among, _ = flooded(beside=3.0, tenant="few")
    waits = sorted(among.ttft(each) for each in few)
    # The step under way must end, and a prompt that has begun is not set aside.
    assert waits[-1] < max(alone.ttft(each) for each in few) + 0.3


@pytest.mark.parametrize("overload", ["relegate", "shed"])
def test_many_short_requests_of_one_tenant_do_not_keep_out_a_long_one_of_another(
    overload: str,
) -> None:
    """What costs most is left out, but that of one who asks for little only by its own fault."""
    flood = [
        asked(1000 + number, prompt=400, output=40, arrival=number * 0.02, tenant="flood")
        for number in range(300)
    ]
    few = [
        asked(number, prompt=3000, output=5, arrival=1.0 + number, tenant="few")
        for number in range(5)
    ]
    ran = paced([*flood, *few], overload=overload)
    assert ran.relegated or len(ran.shed) > 20, "the flood is more than can be served"
    assert not {each.id for each in few} & ran.shed.keys()
    assert max(map(ran.ttft, few)) < 1.5


def test_who_was_relegated_gets_a_share_after_its_patience() -> None:
    """Twice what can be served for 30 s, and a long prompt that cannot be on time among it."""
    flood = [
        asked(1 + number, prompt=1500, output=2, arrival=number * 0.1) for number in range(300)
    ]
    long = asked(0, prompt=8000, output=5, arrival=0.3)
    ran = paced([long, *flood], patience=3.0)
    assert ran.ttft(long) > 1.0
    # A second or so of computing, of which it gets a sixteenth.
    assert ran.ttft(long) < 3.0 + 16.0
    impatient = paced([long, *flood], patience=100.0)
    assert impatient.ttft(long) > ran.ttft(long)


def test_a_prompt_that_has_begun_and_is_late_gets_its_share_too() -> None:
    """It began when there was time, and shorter ones come without an end."""
    begun = asked(0, prompt=8000, output=5)
    flood = [
        asked(1 + number, prompt=900, output=2, arrival=0.05 + number * 0.05)
        for number in range(800)
    ]
    ran = paced([begun, *flood], patience=3.0)
    # In every sixteenth step it comes first: 20 of 30 ms, in which some 150 tokens are computed.
    assert ran.ttft(begun) < 3.0 + 8000 / 150 * 16 * 0.03


def test_those_beyond_their_patience_take_a_small_share_of_the_time() -> None:
    """A second is worth some 9,000 tokens: they would fill nine, beside others that need most."""
    hopeless = parse_objectives("ttft=500ms")
    long = [asked(number, prompt=8000, output=2, objectives=hopeless) for number in range(10)]
    short = [
        asked(100 + number, prompt=600, output=2, arrival=number * 0.1) for number in range(150)
    ]
    ran = paced([*long, *short], patience=1.0)
    on_time = sum(ran.ttft(each) <= 1.0 for each in short)
    assert on_time > 0.9 * len(short)


def test_continuations_of_one_prompt_cost_it_once() -> None:
    together = [
        replace(asked(0, prompt=4000, output=2), id=f"0-{index}", group="0") for index in range(8)
    ]
    ran = run(together, Paced(overload="shed"), TIMES, limits=LIMITS, prefix_caching=True)
    assert not ran.shed


def test_a_stream_that_is_resumed_is_not_held_up_by_its_age() -> None:
    """What it computed is lost, in the middle of a flood, and patience ends before it has it."""
    flood = [
        asked(1 + number, prompt=900, output=2, arrival=number * 0.05) for number in range(300)
    ]
    resumed = replace(asked(0, prompt=8000, output=60, arrival=5.0), generated=(7,) * 50)
    ran = paced([resumed, *flood], patience=0.3)
    assert ran.ttft(resumed) < 2.0


def test_a_caller_gives_slots_back_to_another() -> None:
    """As under `continuous`: many continuations of one caller hold every slot."""
    limits = limits_of(seqs=4, tokens=8192, partial=1, model_len=8192)
    many = [
        replace(asked(number, output=500), caller="many", id=f"many {number}")
        for number in range(8)
    ]
    other = asked(100, arrival=1.0)
    ran = paced([*many, other], limits=limits)
    assert ran.ttft(other) < 0.5
    assert ran.preemptions == 1


def test_a_stream_that_has_begun_is_not_held_up_even_without_objectives() -> None:
    free = asked(0, output=200, objectives=())
    busy = [asked(1 + number, prompt=800, arrival=0.3 + number * 0.08) for number in range(40)]
    ran = paced([free, *busy])
    made = ran.tokens["0"]
    gaps = [after - before for before, after in pairwise(made)]
    assert max(gaps) < 0.3


def test_as_many_join_as_keep_the_pace_of_all_and_no_more() -> None:
    """A step of 204 decodes takes 10 ms and 20.4 ms more, one of 205 is longer than was asked."""
    slo = parse_objectives("ttft=60s,tpot=30.45ms")
    workload = [asked(number, prompt=2, output=300, objectives=slo) for number in range(300)]
    ran = run(workload, Paced(), LinearTimes(position=0.0), limits=LIMITS)
    assert max(shape.decodes for _, shape, _ in ran.steps) == 204


def test_tighter_objectives_go_first() -> None:
    tight = asked(1, prompt=2000, objectives=parse_objectives("ttft=300ms"))
    loose = asked(0, prompt=4000, objectives=parse_objectives("ttft=5s"))
    ran = paced([loose, tight])
    assert ran.tokens["1"][0] < ran.tokens["0"][0]


class Thorough(Paced):
    """Never takes the short way where all decode."""

    def _fill(self, view: View, times: StepTimes) -> tuple[Decision, SequenceView | None]:
        step = PacedStep(view, times, patience=self.patience, shedding=self.overload == "shed")
        return step.decide(), step.refused


@settings(max_examples=30, deadline=None)
@given(
    workload=workloads(),
    seqs=st.integers(1, 12),
    blocks=st.integers(200, 400),
    overload=st.sampled_from(["relegate", "shed"]),
)
def test_the_short_way_where_all_decode_leads_to_the_same_plans(
    workload: list[Request], seqs: int, blocks: int, overload: Overload
) -> None:
    limits = limits_of(seqs=seqs, tokens=600, partial=2, model_len=4096)
    short, thorough = (
        run(workload, policy(overload=overload, patience=2.0), TIMES, limits=limits, blocks=blocks)
        for policy in (Paced, Thorough)
    )
    assert (short.plans, short.shed) == (thorough.plans, thorough.shed)


def test_who_cannot_be_on_time_is_shed_though_every_slot_is_taken() -> None:
    limits = limits_of(seqs=1, tokens=8192, partial=1, model_len=8192)
    first = asked(0, output=300)
    other = asked(1, arrival=0.1, objectives=parse_objectives("ttft=200ms"))
    ran = run([first, other], Paced(overload="shed"), TIMES, limits=limits, until=1.0)
    assert list(ran.shed) == ["1"]


def test_one_that_was_relegated_gets_its_share_behind_any_number_of_others() -> None:
    """More wait, and can be on time, than are looked at."""
    patient = parse_objectives("ttft=1000s,tpot=30ms")
    long = asked(0, prompt=6000, output=5, objectives=parse_objectives("ttft=500ms"))
    others = [asked(1 + number, prompt=400, output=10, objectives=patient) for number in range(900)]
    ran = paced([long, *others], patience=3.0)
    assert ran.relegated == 1
    done = sum(ran.tokens[each.id][0] < ran.tokens["0"][0] for each in others)
    assert len(others) - done > LOOKED_AT, "so many were waiting still"
    assert ran.ttft(long) < 3.0 + 16.0


@settings(max_examples=40, deadline=None)
@given(workload=workloads(most=12))
def test_with_drafts_everybody_is_served_whole(workload: list[Request]) -> None:
    times = LinearTimes(token=2e-3)
    speculation = Speculation([Fixed((TOKEN,) * 8)], PayingDrafts(times))
    ran = run(workload, Paced(), times, limits=LIMITS, speculation=speculation)
    for request in workload:
        assert len(ran.tokens[request.id]) == request.sampling.max_tokens


@pytest.mark.parametrize(("streams", "pace"), [(1, 0.013), (3, 0.017)])
def test_a_step_with_drafts_is_as_long_as_the_pace_allows(streams: int, pace: float) -> None:
    """All drafts are right, and as many as would pay take longer than a token may."""
    times = LinearTimes(token=2e-3)
    objectives = parse_objectives(f"ttft=1s,tpot={pace}s")
    workload = [asked(n, prompt=4, output=200, objectives=objectives) for n in range(streams)]

    def ran(policy: Policy) -> Ran:
        speculation = Speculation([Fixed((TOKEN,) * 8)], PayingDrafts(times))
        return run(workload, policy, times, limits=LIMITS, speculation=speculation)

    paced, eager = ran(Paced()), ran(Continuous())
    assert len(paced.steps) < 200, "there were drafts"
    late = {True: 0, False: 0}
    for outcome in (paced, eager):
        for request in workload:
            first, *others = outcome.tokens[request.id]
            late[outcome is paced] += sum(
                token > first + (place + 1) * pace + 1e-9 for place, token in enumerate(others)
            )
    assert late[True] == 0
    assert late[False] > 0


def test_settings_are_checked() -> None:
    with pytest.raises(InvalidRequest, match="patience"):
        Paced(patience=-1)
    with pytest.raises(InvalidRequest, match="overload"):
        Paced(overload="ignore")  # type: ignore[arg-type]
