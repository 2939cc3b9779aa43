"""Groups: the same requests for every system, at the times that a workload's rates give them."""

from __future__ import annotations

from pathlib import Path

import pytest

from headway.errors import InvalidRequest
from headway.perf.bench.groups import make_groups
from headway.perf.bench.scenario import ScenarioLoad


def test_a_burst_is_one_group_of_requests_that_are_all_there() -> None:
    load = ScenarioLoad(
        name="burst", requests=20, prompt=64, output="exponential:32:128", cap=128, slots=3
    )
    [group] = make_groups(load, seed=1, reached={})
    assert (group.name, group.rate, group.slots) == ("burst", None, 3)
    assert {request.at for request in group.workload.requests} == {0.0}
    assert {request.prompt_tokens for request in group.workload.requests} == {64}
    assert {request.cap for request in group.workload.requests} == {128}
    assert group.longest == 64 + 128
    outputs = [request.output for request in group.workload.requests]
    mean = sum(outputs) / 20
    assert group.length_cv == pytest.approx(
        (sum((output - mean) ** 2 for output in outputs) / 20) ** 0.5 / mean
    )
    assert make_groups(load, seed=1, reached={}) == [group]
    assert make_groups(load, seed=2, reached={}) != [group]


def test_equal_lengths_have_no_variation_and_are_known_without_a_cap() -> None:
    [group] = make_groups(
        ScenarioLoad(name="w", requests=3, prompt=5, output=7), seed=0, reached={}
    )
    assert group.length_cv == 0
    assert group.longest == 12
    assert all(request.cap == request.output == 7 for request in group.workload.requests)


def test_rates_share_the_requests_and_differ_in_their_times() -> None:
    load = ScenarioLoad(name="w", requests=50, output="uniform:1:9", rates=(1.0, 10.0))
    slow, fast = make_groups(load, seed=3, reached={})
    assert [group.name for group in (slow, fast)] == ["w, 1 requests/s", "w, 10 requests/s"]
    assert (slow.rate, fast.rate) == (1.0, 10.0)
    for one, other in zip(slow.workload.requests, fast.workload.requests, strict=True):
        assert (one.segments, one.output) == (other.segments, other.output)
        assert one.at == pytest.approx(10 * other.at)
    assert slow.workload.requests[-1].at > 20


def test_loads_are_shares_of_what_was_reached() -> None:
    load = ScenarioLoad(name="w", requests=2, of="burst", loads=(0.3, 0.9))
    groups = make_groups(load, seed=0, reached={"burst": 8.0})
    assert [group.rate for group in groups] == pytest.approx([2.4, 7.2])
    assert groups[0].name == "w, 30% of 8 requests/s"


def test_objectives_and_distributions_are_read_here_and_named_when_wrong() -> None:
    [group] = make_groups(ScenarioLoad(name="w", requests=1, slo="ttft_p99=1s"), seed=0, reached={})
    assert [str(objective) for objective in group.objectives] == ["ttft_p99=1s"]
    for changed, field in (
        (ScenarioLoad(name="w", requests=1, slo="soon"), "slo"),
        (ScenarioLoad(name="w", requests=1, output="long"), "output"),
        (ScenarioLoad(name="w", requests=1, prompt="uniform:9:1"), "prompt"),
    ):
        with pytest.raises(InvalidRequest) as raised:
            make_groups(changed, seed=0, reached={})
        assert raised.value.field == field


def test_a_trace_brings_its_own_times_and_lengths(tmp_path: Path) -> None:
    path = tmp_path / "trace.csv"
    path.write_text(
        "TIMESTAMP,ContextTokens,GeneratedTokens\n"
        "2023-11-16 18:00:00.0000000,100,10\n"
        "2023-11-16 18:00:04.0000000,300,30\n"
    )
    load = ScenarioLoad(name="azure", requests=2, trace=str(path), length_scale=0.1, rate_scale=2.0)
    [group] = make_groups(load, seed=0, reached={})
    assert [request.prompt_tokens for request in group.workload.requests] == [10, 30]
    assert [request.output for request in group.workload.requests] == [1, 3]
    assert [request.at for request in group.workload.requests] == [0.0, 2.0]
    assert group.rate is None
