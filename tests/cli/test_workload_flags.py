"""Workload and objective flags: what they make, and that none is silently without effect."""

from __future__ import annotations

import argparse
from pathlib import Path

import pytest

from headway.cli.workload_flags import (
    add_objective_flags,
    add_workload_flags,
    objectives_from,
    workload_from,
)
from headway.errors import InvalidRequest
from headway.perf.workload.workload import Workload
from headway.types.objectives import parse_objectives

TRACE = """TIMESTAMP,ContextTokens,GeneratedTokens
2023-11-16 18:15:46.0000000,300,40
2023-11-16 18:15:47.0000000,400,80
"""


@pytest.fixture
def trace(tmp_path: Path) -> str:
    path = tmp_path / "trace.csv"
    path.write_text(TRACE)
    return str(path)


def parsed(*words: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser(exit_on_error=False)
    add_workload_flags(parser)
    add_objective_flags(parser)
    return parser.parse_args(words)


def workload(*words: str) -> Workload:
    return workload_from(parsed(*words))


def test_without_flags_there_is_a_small_workload_all_at_once() -> None:
    made = workload()
    assert len(made.requests) == 100
    assert {
        (request.prompt_tokens, request.output, request.cap, request.at)
        for request in made.requests
    } == {(256, 64, 64, 0.0)}


@pytest.mark.parametrize("prefix", ["", "random-"])
def test_lengths_are_laws_under_both_names(prefix: str) -> None:
    made = workload(f"--{prefix}input-len", "uniform:5:9", f"--{prefix}output-len", "7")
    assert {request.prompt_tokens for request in made.requests} == set(range(5, 10))
    assert {request.output for request in made.requests} == {7}


def test_prefixes_caps_and_seeds_reach_the_workload() -> None:
    words = ("--random-prefix-len", "8", "--num-prefixes", "2", "--output-cap", "32")
    made = workload(*words, "--num-prompts", "20")
    assert len({request.segments[0] for request in made.requests}) == 2
    assert {request.cap for request in made.requests} == {32}
    assert {request.output for request in made.requests} == {32}
    assert made != workload(*words, "--num-prompts", "20", "--seed", "1")


def test_a_rate_is_poisson_and_burstiness_changes_it() -> None:
    even = workload("--request-rate", "4", "--burstiness", "inf", "--num-prompts", "5")
    assert [request.at for request in even.requests] == [0, 0.25, 0.5, 0.75, 1.0]
    random = workload("--request-rate", "4", "--num-prompts", "400")
    assert random.requests[-1].at == pytest.approx(100, rel=0.2)
    assert {request.at for request in workload("--request-rate", "inf").requests} == {0}


def test_a_ramp_grows() -> None:
    ramp = ("--ramp-up-strategy", "linear", "--ramp-up-start-rps", "1", "--ramp-up-end-rps", "9")
    times = [request.at for request in workload(*ramp, "--burstiness", "inf").requests]
    assert times[1] - times[0] == pytest.approx(1)
    assert times[-1] - times[-2] == pytest.approx(1 / 9, rel=0.02)


def test_a_path_is_a_trace_at_its_own_times(trace: str) -> None:
    made = workload("--dataset-path", trace)
    assert [(request.at, request.prompt_tokens, request.output) for request in made.requests] == [
        (0, 300, 40),
        (1, 400, 80),
    ]
    scaled = workload(
        *("--dataset-name", "trace", "--dataset-path", trace, "--num-prompts", "3"),
        *("--length-scale", "0.1", "--rate-scale", "2", "--output-cap", "6"),
    )
    assert [
        (request.at, request.prompt_tokens, request.output, request.cap)
        for request in scaled.requests
    ] == [
        (0, 30, 4, 6),
        (0.5, 40, 6, 6),
        (1, 30, 4, 6),
    ]


def test_a_rate_replaces_the_times_of_a_trace(trace: str) -> None:
    made = workload("--dataset-path", trace, "--request-rate", "4", "--burstiness", "inf")
    assert [request.at for request in made.requests] == [0, 0.25]
    assert {
        request.at
        for request in workload("--dataset-path", trace, "--request-rate", "inf").requests
    } == {0}


def test_a_saved_workload_is_replayed_as_it_was(tmp_path: Path) -> None:
    kept = str(tmp_path / "kept.jsonl")
    made = workload("--request-rate", "3", "--output-len", "exponential:9", "--save-workload", kept)
    assert workload("--dataset-path", kept) == made


@pytest.mark.parametrize(
    ("words", "flag"),
    [
        ("--dataset-name trace", "--dataset-path"),
        ("--dataset-name random --dataset-path TRACE", "--dataset-path"),
        ("--dataset-path TRACE --input-len 5", "--input-len"),
        ("--dataset-path TRACE --random-output-len 5", "--output-len"),
        ("--dataset-path TRACE --random-prefix-len 5", "--random-prefix-len"),
        ("--dataset-path TRACE --rate-scale 2 --request-rate 3", "--rate-scale"),
        ("--dataset-path TRACE --length-scale 0", "--length-scale"),
        ("--length-scale 2", "--length-scale"),
        ("--rate-scale 2", "--rate-scale"),
        ("--num-prefixes 2", "--num-prefixes"),
        ("--num-prompts 0", "--num-prompts"),
        ("--num-prompts 1000000000", "--num-prompts"),
        ("--output-cap 0", "--output-cap"),
        ("--random-prefix-len=-1", "--random-prefix-len"),
        ("--input-len none", "--input-len"),
        ("--output-len 0", "--output-len"),
        ("--request-rate 0", "--request-rate"),
        ("--request-rate nan", "--request-rate"),
        ("--burstiness 2", "--burstiness"),
        ("--burstiness 0 --request-rate 1", "--burstiness"),
        ("--ramp-up-start-rps 2", "--ramp-up-strategy"),
        ("--ramp-up-strategy linear --ramp-up-start-rps 2", "--ramp-up-end-rps"),
        ("--ramp-up-strategy linear --ramp-up-end-rps 2", "--ramp-up-start-rps"),
        ("--ramp-up-strategy linear --request-rate 2", "--request-rate"),
        ("--save-workload NOWHERE/x", "NOWHERE/x"),
    ],
)
def test_a_flag_without_effect_or_sense_is_named(words: str, flag: str, trace: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        workload(*words.replace("TRACE", trace).split())
    assert caught.value.field == flag


def test_objectives_come_from_either_flag() -> None:
    assert objectives_from(parsed()) == ()
    assert objectives_from(parsed("--slo", "ttft_p99=1s")) == parse_objectives("ttft_p99=1s")
    assert objectives_from(parsed("--goodput", "ttft:500", "tpot:50")) == parse_objectives(
        "ttft=500ms,tpot=50ms"
    )
    with pytest.raises(InvalidRequest) as caught:
        objectives_from(parsed("--slo", "ttft=1s", "--goodput", "ttft:5"))
    assert caught.value.field == "--goodput"


MIX = ("--class-mix", "interactive:0.3,standard:0.5,batch:0.2")


def test_classes_objectives_and_tenants_are_made_by_flags() -> None:
    made = workload(
        *MIX, "--class-slo", "interactive:ttft_p99=500ms,tpot=30ms", "batch:e2el=5min",
        "--tenants", "a:0.9,b:0.1",
    )  # fmt: skip
    assert {(each.service_class, each.objectives) for each in made.requests} == {
        ("interactive", parse_objectives("ttft_p99=500ms,tpot=30ms")),
        ("standard", ()),
        ("batch", parse_objectives("e2el=5min")),
    }
    assert {each.tenant for each in made.requests} == {"a", "b"}
    assert made != workload(*MIX, "--seed", "1")


def test_objectives_of_the_usual_class_need_no_mix() -> None:
    made = workload("--class-slo", "standard:ttft=1s")
    assert {each.objectives for each in made.requests} == {parse_objectives("ttft=1s")}


def test_a_saved_workload_keeps_its_classes_and_may_get_objectives(tmp_path: Path) -> None:
    path = str(tmp_path / "kept")
    first = workload(*MIX, "--tenants", "a:1,b:1", "--save-workload", path)
    again = workload("--dataset-path", path, "--class-slo", "batch:e2el=1min")
    assert [(each.service_class, each.tenant) for each in again.requests] == [
        (each.service_class, each.tenant) for each in first.requests
    ]
    assert {each.objectives for each in again.requests if each.service_class == "batch"} == {
        parse_objectives("e2el=1min")
    }


@pytest.mark.parametrize(
    ("words", "field", "said"),
    [
        (("--class-mix", "urgent:1"), "--class-mix", "'urgent' is no service class; there are"),
        (("--class-mix", "batch"), "--class-mix", "no pair"),
        (("--class-slo", "batch:ttft=1s"), "--class-slo", "no effect: no request is batch"),
        (("--class-slo", "urgent:ttft=1s"), "--class-slo", "no service class"),
        (("--class-slo", "standard"), "--class-slo", "is no objective"),
        (("--class-slo", "standard:ttft=1s", "standard:tpot=1s"), "--class-slo", "twice"),
        (("--tenants", "a:0"), "--tenants", "above 0"),
    ],
)
def test_bad_service_flags_are_named(words: tuple[str, ...], field: str, said: str) -> None:
    with pytest.raises(InvalidRequest, match=said) as raised:
        workload(*words)
    assert raised.value.field == field
