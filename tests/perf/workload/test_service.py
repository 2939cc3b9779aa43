"""Classes, objectives and tenants of a workload: drawn by shares, and nothing else changed."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headway.errors import InvalidRequest
from headway.perf.workload.lengths import parse_lengths
from headway.perf.workload.service import (
    parse_shares,
    with_classes,
    with_objectives,
    with_tenants,
)
from headway.perf.workload.synthetic import at_rate, gamma, synthesize, then, warm_up
from headway.perf.workload.traces import read_trace
from headway.perf.workload.workload import Workload, WorkloadRequest, write_workload
from headway.types import SERVICE_CLASSES
from headway.types.objectives import parse_objectives
from tests.perf.bench.fakes import request, workload

LOOSE = parse_objectives("ttft=5s")
TIGHT = parse_objectives("ttft_p99=200ms,tpot=30ms,itl=1s,e2el=2min")


def many(count: int = 2000) -> Workload:
    return synthesize(
        num_requests=count,
        prompt=parse_lengths("uniform:1:9"),
        output=parse_lengths("3"),
        arrivals=gamma(2),
    )


def plain(each: WorkloadRequest) -> WorkloadRequest:
    return replace(each, tenant="", service_class="standard", objectives=())


def served(count: int = 50) -> Workload:
    mixed = with_classes(many(count), {"interactive": 1, "batch": 1}, seed=3)
    wanted = with_objectives(mixed, {"interactive": TIGHT})
    return with_tenants(wanted, {"a": 1, "b": 1}, seed=3)


def test_classes_and_tenants_come_in_their_shares() -> None:
    made = with_tenants(
        with_classes(many(), {"interactive": 3, "standard": 5, "batch": 2}), {"a": 0.9, "b": 0.1}
    )
    classes = Counter(each.service_class for each in made.requests)
    assert [classes[name] / 2000 for name in SERVICE_CLASSES] == pytest.approx(
        [0.3, 0.5, 0.2], abs=0.04
    )
    tenants = Counter(each.tenant for each in made.requests)
    assert tenants["a"] / 2000 == pytest.approx(0.9, abs=0.03)
    assert tenants["a"] + tenants["b"] == 2000


def test_the_seed_draws_and_classes_are_independent_of_tenants() -> None:
    shares = {"a": 1.0, "b": 1.0}
    assert with_tenants(many(), shares) == with_tenants(many(), shares)
    assert with_tenants(many(), shares) != with_tenants(many(), shares, seed=1)
    both = with_tenants(with_classes(many(), {"standard": 1, "batch": 1}), shares)
    pairs = Counter((each.service_class, each.tenant) for each in both.requests)
    assert all(count == pytest.approx(500, abs=100) for count in pairs.values())


def test_nothing_else_of_a_request_changes() -> None:
    assert [plain(each) for each in served().requests] == list(many(50).requests)


def test_objectives_go_to_the_classes_that_are_named() -> None:
    found = {each.service_class: each.objectives for each in served().requests}
    assert found == {"interactive": TIGHT, "batch": ()}
    again = with_objectives(served(), {"batch": LOOSE})
    assert {each.objectives for each in again.requests} == {TIGHT, LOOSE}


def test_other_times_and_lengths_keep_whom_requests_are_for(tmp_path: Path) -> None:
    write_workload(tmp_path / "kept", served())
    scaled = read_trace(tmp_path / "kept", length_scale=2, rate_scale=3, num_requests=60)
    for made in (scaled, at_rate(served(), 2), then(served(), served())):
        for number, each in enumerate(made.requests):
            original = served().requests[number % 50]
            assert (each.tenant, each.service_class) == (original.tenant, original.service_class)
            assert each.objectives == original.objectives


def test_a_warm_up_has_no_objectives() -> None:
    warming = warm_up(served(), 60).requests
    assert {each.objectives for each in warming} == {()}
    assert {each.tenant for each in warming} == {"a", "b"}


@given(
    st.lists(
        st.builds(
            replace,
            st.just(request()),
            tenant=st.text(max_size=128),
            service_class=st.sampled_from(SERVICE_CLASSES),
            objectives=st.sampled_from([(), LOOSE, TIGHT]),
        ),
        min_size=1,
    )
)
def test_a_file_keeps_whom_requests_are_for(
    tmp_path_factory: pytest.TempPathFactory, requests: list[WorkloadRequest]
) -> None:
    path = tmp_path_factory.mktemp("kept") / "workload.jsonl"
    write_workload(path, workload(*requests))
    assert read_trace(path).requests == tuple(requests)


def test_a_file_without_objectives_reads_as_before(tmp_path: Path) -> None:
    write_workload(tmp_path / "kept", workload(request(at=1.5)))
    _, line = (tmp_path / "kept").read_text().splitlines()
    assert not {"tenant", "service_class", "objectives"} & set(line.split('"'))


@pytest.mark.parametrize(
    ("field", "reason"),
    [
        ('"objectives":[{"metric":"ttft","seconds":0}]', "line 2: an objective's seconds"),
        (
            '"objectives":[{"metric":"ttft","seconds":1,"percentile":101}]',
            "line 2: percentiles are above 0",
        ),
        ('"objectives":[{"metric":"speed","seconds":1}]', "line 2: objectives.*'speed'"),
        ('"service_class":"urgent"', "line 2: service_class.*'urgent'"),
        (f'"tenant":"{"x" * 129}"', "line 2: a tenant's name"),
    ],
)
def test_bad_fields_of_a_file_are_named(tmp_path: Path, field: str, reason: str) -> None:
    head = '{"headway_workload": 1, "name": "x"}\n'
    (tmp_path / "kept").write_text(head + f'{{"segments":[[0,1]],"output":1,"cap":1,{field}}}\n')
    with pytest.raises(InvalidRequest, match=reason):
        read_trace(tmp_path / "kept")


def test_shares_are_read() -> None:
    assert parse_shares("a:0.9, b : 1e-1", field="f") == {"a": 0.9, "b": 0.1}
    assert parse_shares("key:with:colons:2", field="f") == {"key:with:colons": 2.0}


@pytest.mark.parametrize(
    "text",
    [
        "",
        "a",
        "a:",
        ":1",
        "a:0",
        "a:-1",
        "a:inf",
        "a:nan",
        "a:x",
        "a:1,a:2",
        "a:1,",
        "x" * 129 + ":1",
    ],
)
def test_what_are_no_shares_is_an_error_of_the_field(text: str) -> None:
    with pytest.raises(InvalidRequest, match="--tenants: ") as raised:
        parse_shares(text, field="--tenants")
    assert raised.value.field == "--tenants"
