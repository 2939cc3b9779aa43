"""Synthetic workloads: lengths as distributed, shared prefixes, caps, independent streams."""

from __future__ import annotations

from typing import Any

import pytest

from headway.errors import InvalidRequest
from headway.perf.workload.lengths import parse_lengths
from headway.perf.workload.synthetic import (
    at_once,
    beside,
    gamma,
    length_cv,
    rearrive,
    synthesize,
    then,
    warm_up,
)
from headway.perf.workload.workload import Workload, distinct_tokens
from tests.perf.bench.fakes import request, workload


def made(**changes: Any) -> Workload:
    settings: dict[str, Any] = {
        "num_requests": 50,
        "prompt": parse_lengths("uniform:5:20"),
        "output": parse_lengths("exponential:30:100"),
        "arrivals": gamma(2),
        "seed": 1,
    }
    return synthesize(**(settings | changes))


def test_the_same_seed_makes_the_same_workload() -> None:
    assert made() == made()
    assert made() != made(seed=2)


def test_lengths_do_not_change_with_the_arrivals() -> None:
    one, other = made(), made(arrivals=gamma(9, 0.5), output=parse_lengths("5"))
    assert [request.prompt_tokens for request in one.requests] == [
        request.prompt_tokens for request in other.requests
    ]
    assert [request.at for request in one.requests] != [request.at for request in other.requests]


def test_without_a_cap_lengths_are_known_ahead() -> None:
    assert all(request.cap == request.output for request in made().requests)


def test_a_cap_is_every_requests_and_cuts_longer_outputs() -> None:
    free, capped = made(), made(cap=40)
    assert max(request.output for request in free.requests) > 40
    assert {request.cap for request in capped.requests} == {40}
    assert [request.output for request in capped.requests] == [
        min(request.output, 40) for request in free.requests
    ]


def test_prompts_share_nothing_unless_asked_to() -> None:
    tokens = [set(distinct_tokens(request)) for request in made().requests]
    assert sum(map(len, tokens)) == len(set().union(*tokens))


def test_shared_prefixes_come_first_and_are_as_many_as_asked() -> None:
    workload = made(prefix_tokens=7, prefixes=3)
    heads = {request.segments[0] for request in workload.requests}
    assert {segment.length for segment in heads} == {7}
    assert len({distinct_tokens(request)[:7] for request in workload.requests}) == len(heads) == 3
    assert (
        len({request.segments[1].seed for request in workload.requests} - {s.seed for s in heads})
        == 50
    )


def test_workloads_of_different_seeds_share_no_prompt() -> None:
    one, other = (
        {
            segment.seed
            for request in made(seed=seed, prefix_tokens=4).requests
            for segment in request.segments
        }
        for seed in (1, 2)
    )
    assert not one & other


def test_the_name_tells_sizes() -> None:
    workload = made(prompt=parse_lengths("10"), output=parse_lengths("3"), prefix_tokens=5)
    assert workload.name == "50 requests, prompt 15 and output 3 on average"


def test_other_arrivals_leave_all_else() -> None:
    workload = made()
    moved = rearrive(workload, at_once)
    assert {request.at for request in moved.requests} == {0}
    assert rearrive(moved, gamma(2), seed=1) == workload


def test_length_cv_is_deviation_over_mean() -> None:
    assert length_cv(made(output=parse_lengths("9"))) == 0
    # Of 1 and 3 at even odds: deviation 1, mean 2.
    lengths = iter([1, 3] * 25)
    assert length_cv(made(output=lambda _random: next(lengths))) == 0.5


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"num_requests": 0}, "num_requests"),
        ({"num_requests": 10**9}, "num_requests"),
        ({"prefix_tokens": -1}, "prefix_tokens"),
        ({"prefixes": 0}, "prefixes"),
        ({"cap": 0}, "cap"),
    ],
)
def test_sizes_out_of_bounds_are_named(changes: dict[str, int], field: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        made(**changes)
    assert caught.value.field == field


def test_warm_ups_repeat_the_workload_at_once_with_other_prompts() -> None:
    requests = [request(3, at=1.0), request(5, at=2.0)]
    warm = warm_up(workload(*requests), 5)
    assert [each.prompt_tokens for each in warm.requests] == [3, 5, 3, 5, 3]
    assert {each.at for each in warm.requests} == {0.0}
    assert not {each.segments for each in warm.requests} & {each.segments for each in requests}
    assert warm_up(workload(), 5).requests == ()
    assert [each.output for each in warm.requests[:2]] == [each.output for each in requests]


def test_a_warm_up_with_shorter_answers_tells_their_length() -> None:
    first = warm_up(workload(request(output=3, cap=9, at=1.0), request(output=90)), 2, max_output=8)
    assert [(each.output, each.cap, each.at) for each in first.requests] == [
        (3, 3, 0.0),
        (8, 8, 0.0),
    ]
    assert warm_up(workload(request()), 0).requests == ()


def test_one_workload_follows_another_after_an_average_gap() -> None:
    first = workload(request(at=0.0), request(at=1.0), request(at=4.0))
    second = workload(request(9, at=0.0), request(9, at=0.5))
    both = then(first, second)
    assert [each.at for each in both.requests] == [0.0, 1.0, 4.0, 6.0, 6.5]
    assert [each.prompt_tokens for each in both.requests] == [4, 4, 4, 9, 9]


def test_after_nothing_or_a_single_request_there_is_no_gap() -> None:
    second = workload(request(at=0.0), request(at=0.5))
    assert then(workload(), second).requests == second.requests
    both = then(workload(request(at=2.0)), second)
    assert [each.at for each in both.requests] == [2.0, 2.0, 2.5]


def test_two_workloads_at_once_are_in_the_order_of_time() -> None:
    first, second = workload(request(1, at=0.0), request(1, at=2.0)), made(num_requests=20)
    both = beside(first, second)
    assert sorted(both.requests, key=lambda each: each.at) == list(both.requests)
    assert {id(each) for each in both.requests} == {
        id(each) for each in first.requests + second.requests
    }
    assert both.requests[0].prompt_tokens == 1
