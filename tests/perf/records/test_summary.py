"""The summary: figures worked out by hand, what is left out, and what cannot be improved."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from headway.perf.records.record import RequestRecord
from headway.perf.records.summary import summarize
from headway.types.objectives import parse_objectives
from tests.perf.records.records import answered, broken, refused


def test_volume_counts_whole_answers() -> None:
    figures = summarize([answered(), answered(), broken(), refused()], duration=2.0)
    assert figures["completed"] == 2
    assert figures["failed"] == 2
    assert figures["duration"] == 2.0
    assert figures["total_input_tokens"] == 20
    assert figures["total_output_tokens"] == 10
    assert figures["request_throughput"] == 1.0
    assert figures["output_throughput"] == 5.0
    assert figures["total_token_throughput"] == 15.0
    assert figures["shed_share"] == 0.25


def test_drafts_are_told_where_there_were_any() -> None:
    assert not any("spec" in name or "step" in name for name in summarize([answered()], duration=1))
    records = [
        replace(answered(), draft_tokens=6, accepted_tokens=2),
        answered(),
        replace(broken(), draft_tokens=99, accepted_tokens=9),
    ]
    figures = summarize(records, duration=1.0)
    assert figures["spec_decode_draft_tokens"] == 6
    assert figures["spec_decode_accepted_tokens"] == 2
    assert figures["spec_decode_acceptance_rate"] == pytest.approx(100 / 3)
    assert figures["tokens_per_step"] == 10 / 8
    # What no server of ours would say.
    odd = summarize([replace(answered(), draft_tokens=9, accepted_tokens=9)], duration=1.0)
    assert "tokens_per_step" not in odd


def test_latencies_are_milliseconds_of_whole_answers() -> None:
    figures = summarize([answered(ttft=1.0), answered(ttft=3.0), broken()], duration=1.0)
    assert figures["mean_ttft_ms"] == pytest.approx(2000)
    assert figures["median_ttft_ms"] == figures["p50_ttft_ms"] == pytest.approx(2000)
    assert figures["std_ttft_ms"] == pytest.approx(1000)
    assert figures["p90_ttft_ms"] == pytest.approx(2800)
    assert figures["p99_ttft_ms"] == pytest.approx(2980)
    assert figures["mean_tpot_ms"] == pytest.approx(100)
    assert figures["p95_itl_ms"] == pytest.approx(100)
    assert figures["mean_e2el_ms"] == pytest.approx(2400)


def test_gaps_may_be_counted_elsewhere() -> None:
    bare = [replace(answered(), itls=())]
    assert "mean_itl_ms" not in summarize(bare, duration=1.0)
    figures = summarize(bare, duration=1.0, gaps={1000: 3, 5000: 1})
    assert figures["mean_itl_ms"] == pytest.approx(2)
    assert figures["median_itl_ms"] == pytest.approx(1)
    assert figures["p99_itl_ms"] == pytest.approx(4.88)


def test_other_percentiles_are_named_after_their_share() -> None:
    figures = summarize([answered()], duration=1.0, percentiles=(25, 99.9))
    assert figures["p25_ttft_ms"] == figures["p99.9_ttft_ms"] == pytest.approx(500)
    assert "p90_ttft_ms" not in figures


def test_on_time_figures_count_over_the_offered_requests() -> None:
    records = [answered(ttft=0.5), answered(ttft=0.9), refused(), broken()]
    figures = summarize(records, duration=2.0, objectives=parse_objectives("ttft_p99=600ms"))
    assert figures["attainment"] == 0.25
    assert figures["request_goodput"] == 0.5
    assert figures["on_time_output_throughput"] == 2.5


def test_the_largest_gap_is_that_of_any_request() -> None:
    assert summarize([answered(), broken()], duration=1.0)["largest_gap_ms"] == 2000


def test_the_clients_delay_is_how_late_it_sent() -> None:
    records = [answered(due=1.0, sent=1.0), answered(due=1.0, sent=1.25)]
    figures = summarize(records, duration=1.0)
    assert figures["client_lag_max_ms"] == 250
    assert figures["client_lag_p99_ms"] == pytest.approx(247.5)


def test_most_requests_at_once() -> None:
    def between(begin: float, end: float) -> RequestRecord:
        return answered(sent=begin, ttft=end - begin, gaps=())

    assert _most([between(0, 2), between(1, 3), between(2, 4), between(5, 6)]) == 2
    assert _most([between(0, 9), between(1, 3), between(2, 4), refused(sent=2)]) == 3


def test_nothing_measured_leaves_the_figures_out() -> None:
    assert summarize([], duration=0.0) == {
        "completed": 0,
        "failed": 0,
        "duration": 0.0,
        "total_input_tokens": 0,
        "total_output_tokens": 0,
        "max_concurrent_requests": 0,
    }
    only_refused = summarize(
        [refused()], duration=1.0, objectives=parse_objectives("ttft=1s,tpot=1s")
    )
    assert only_refused["attainment"] == 0
    assert "mean_ttft_ms" not in only_refused


RECORDS = st.builds(
    lambda ttft, gaps, kind: {"a": answered(ttft=ttft, gaps=gaps), "b": broken()}.get(
        kind, refused()
    ),
    st.floats(0, 100),
    st.lists(st.floats(0, 10), max_size=4).map(tuple),
    st.sampled_from("abr"),
)
OBJECTIVES = parse_objectives("ttft_p99=1s,tpot=1s,itl=5s")


@given(st.lists(RECORDS, max_size=8), st.floats(0, 100))
@example([answered(ttft=0.0, gaps=())], 5e-324)
def test_every_figure_is_a_number_that_json_can_hold(
    records: list[RequestRecord], duration: float
) -> None:
    figures = summarize(records, duration=duration, objectives=OBJECTIVES)
    assert all(math.isfinite(value) for value in figures.values())
    assert json.loads(json.dumps(figures, allow_nan=False)) == figures


@given(st.lists(RECORDS, min_size=1, max_size=8), st.data())
def test_turning_a_request_away_never_improves_attainment(
    records: list[RequestRecord], data: st.DataObject
) -> None:
    victim = data.draw(st.integers(0, len(records) - 1))
    shed = [refused() if i == victim else record for i, record in enumerate(records)]
    before, after = (
        summarize(offered, duration=1.0, objectives=OBJECTIVES) for offered in (records, shed)
    )
    for name in ("attainment", "request_goodput", "on_time_output_throughput"):
        assert after[name] <= before[name]


def _most(records: list[RequestRecord]) -> float:
    return summarize(records, duration=1.0)["max_concurrent_requests"]
