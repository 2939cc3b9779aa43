"""Which requests met the objectives, and which objectives were met."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headway.perf.records.attainment import meets, on_time_figures
from headway.perf.records.record import RequestRecord
from headway.perf.records.summary import objectives_met
from headway.types.objectives import parse_objectives
from tests.perf.records.records import answered, broken, refused

# An answer whose first token comes after 0.5 s, 0.1 s a token after it, its end at 0.9 s.
USUAL = answered()


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("ttft=500ms", True),
        ("ttft=499ms", False),
        ("ttft_p50=499ms", False),
        ("tpot=110ms,e2el=1s", True),
        ("tpot=90ms", False),
        ("tpot=110ms,e2el=800ms", False),
        ("itl=100ms", True),
        ("itl=99ms", False),
    ],
)
def test_a_request_meets_objectives_if_it_keeps_every_bound(text: str, kept: bool) -> None:
    assert meets(USUAL, parse_objectives(text)) is kept


def test_a_request_is_held_to_the_longest_of_several_bounds() -> None:
    assert meets(USUAL, parse_objectives("ttft_p50=100ms,ttft_p99=1s"))


def test_one_token_has_no_tpot_to_miss() -> None:
    assert meets(answered(gaps=()), parse_objectives("tpot=1ms,itl=1ms"))


@pytest.mark.parametrize("record", [refused(), broken()])
def test_what_was_not_answered_meets_nothing(record: RequestRecord) -> None:
    assert not meets(record, parse_objectives("ttft=10min"))
    assert not meets(record, ())


def test_an_objective_is_judged_at_its_percentile() -> None:
    records = [answered(ttft=second) for second in (1.0, 2.0, 3.0, 4.0, 5.0)]
    half, every = objectives_met(records, parse_objectives("ttft_p50=3s,ttft=4s"))
    assert (half.value, half.met) == (3.0, True)
    assert (every.value, every.met) == (5.0, False)


def test_refusing_requests_does_not_help_an_objective() -> None:
    records = [answered(ttft=1.0)] * 3
    (all_served,) = objectives_met(records, parse_objectives("ttft_p90=1s"))
    (one_refused,) = objectives_met([*records, refused()], parse_objectives("ttft_p90=1s"))
    assert all_served.met
    assert (one_refused.value, one_refused.met) == (None, False)


def test_a_percentile_below_the_refused_ones_still_has_a_time() -> None:
    records = [answered(ttft=1.0)] * 3 + [refused()]
    (half,) = objectives_met(records, parse_objectives("ttft_p50=1s"))
    assert (half.value, half.met) == (1.0, True)


def test_itl_with_a_percentile_is_over_gaps_and_without_one_over_requests() -> None:
    records = [answered(gaps=(0.1,) * 99 + (1.0,))]
    tail, every = objectives_met(records, parse_objectives("itl_p90=100ms,itl=900ms"))
    assert tail.met
    assert tail.value == pytest.approx(0.1)
    assert (every.value, every.met) == (1.0, False)


def test_counted_gaps_take_the_place_of_those_of_the_records() -> None:
    (tail,) = objectives_met([USUAL], parse_objectives("itl_p50=1s"), gaps={2_000_000: 3})
    assert (tail.value, tail.met) == (2.0, False)


def test_answers_of_one_token_leave_tpot_unmeasured() -> None:
    (tpot,) = objectives_met([answered(gaps=())], parse_objectives("tpot=1s"))
    assert (tpot.value, tpot.met) == (None, False)


@given(st.lists(st.floats(0.01, 10), min_size=1, max_size=20), st.floats(0.01, 10))
def test_an_objective_for_every_request_is_met_if_all_meet_it(
    times: list[float], bound: float
) -> None:
    objectives = parse_objectives(f"ttft={bound!r}s")
    records = [answered(ttft=time) for time in times]
    (every,) = objectives_met(records, objectives)
    assert every.met is all(meets(record, objectives) for record in records)


def test_a_request_is_held_to_its_own_objectives_before_the_runs() -> None:
    own = replace(USUAL, objectives=parse_objectives("ttft=400ms"))
    assert not meets(own, parse_objectives("ttft=1s"))
    assert meets(
        replace(USUAL, objectives=parse_objectives("ttft=1s")), parse_objectives("ttft=1ms")
    )


def test_of_a_batch_request_only_a_whole_answer_is_asked() -> None:
    batch = replace(USUAL, service_class="batch")
    assert meets(batch, parse_objectives("ttft=1ms"))
    assert not meets(replace(broken(), service_class="batch"), ())
    assert not meets(replace(batch, objectives=parse_objectives("ttft=1ms")), ())


def test_objectives_that_requests_brought_are_judged_over_those_requests() -> None:
    mine = parse_objectives("ttft_p99=3s")
    records = [answered(ttft=1.0), replace(answered(ttft=2.0), objectives=mine)]
    of_run, own = objectives_met(records, parse_objectives("ttft=1500ms"))
    assert (of_run.value, of_run.met) == (1.0, True)
    assert (own.objective, own.value, own.met) == (mine[0], 2.0, True)


def test_an_objective_that_nobody_is_held_to_is_left_out() -> None:
    own = replace(USUAL, objectives=parse_objectives("ttft=1s"))
    assert [
        each.objective.metric for each in objectives_met([own], parse_objectives("tpot=1s"))
    ] == ["ttft"]


def test_figures_of_classes_and_tenants_where_there_are_several() -> None:
    wanted = parse_objectives("ttft=1s")
    records = [
        replace(answered(ttft=0.5), service_class="interactive", tenant="a", objectives=wanted),
        replace(answered(ttft=2.0), service_class="interactive", tenant="b", objectives=wanted),
        replace(answered(ttft=9.0), service_class="batch", tenant="a"),
        replace(refused(), service_class="batch", tenant="a"),
    ]
    found = on_time_figures(records, (), 10.0)
    assert found == pytest.approx(
        {
            "attainment": 0.5,
            "late_share": 0.25,
            "attainment_interactive": 0.5,
            "attainment_batch": 0.5,
            "shed_share_interactive": 0.0,
            "shed_share_batch": 0.5,
            "attainment_tenant_a": 2 / 3,
            "attainment_tenant_b": 0.0,
            "shed_share_tenant_a": 1 / 3,
            "shed_share_tenant_b": 0.0,
            "request_goodput": 0.2,
            "on_time_output_throughput": 1.0,
        }
    )


def test_one_class_and_one_tenant_are_not_told_apart_and_nothing_asked_is_nothing_said() -> None:
    assert on_time_figures([USUAL], (), 1.0) == {}
    names = on_time_figures([USUAL, refused()], parse_objectives("ttft=1s"), 1.0)
    assert not [name for name in names if "_standard" in name or "_tenant" in name]


def test_without_time_or_requests_there_are_no_rates_or_shares() -> None:
    wanted = parse_objectives("ttft=1s")
    assert set(on_time_figures([], wanted, 1.0)) == {"request_goodput", "on_time_output_throughput"}
    assert set(on_time_figures([USUAL], wanted, 0.0)) == {"attainment", "late_share"}
