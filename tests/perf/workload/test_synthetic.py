"""Synthetic workloads: what the laws say, shared prefixes, caps, and independent chance."""

from __future__ import annotations

from typing import Any

import pytest

from headway.errors import InvalidRequest
from headway.perf.workload import Workload, distinct_tokens, parse_lengths, rearrive, synthesize
from headway.perf.workload.arrivals import at_once, gamma, poisson
from headway.perf.workload.synthetic import coefficient_of_variation


def made(**changes: Any) -> Workload:
    settings: dict[str, Any] = {
        "requests": 50,
        "prompt": parse_lengths("uniform:5:20"),
        "output": parse_lengths("exponential:30:100"),
        "arrivals": poisson(2),
        "seed": 1,
    }
    return synthesize(**(settings | changes))


def test_the_same_seed_makes_the_same_workload() -> None:
    assert made() == made()
    assert made() != made(seed=2)


def test_lengths_do_not_change_with_the_arrivals() -> None:
    one, other = made(), made(arrivals=gamma(9, 0.5), output=parse_lengths("5"))
    assert [job.prompt_tokens for job in one.jobs] == [job.prompt_tokens for job in other.jobs]
    assert [job.at for job in one.jobs] != [job.at for job in other.jobs]


def test_without_a_cap_lengths_are_known_ahead() -> None:
    assert all(job.cap == job.output for job in made().jobs)


def test_a_cap_is_every_jobs_and_cuts_longer_outputs() -> None:
    free, capped = made(), made(cap=40)
    assert max(job.output for job in free.jobs) > 40
    assert {job.cap for job in capped.jobs} == {40}
    assert [job.output for job in capped.jobs] == [min(job.output, 40) for job in free.jobs]


def test_prompts_share_nothing_unless_asked_to() -> None:
    tokens = [set(distinct_tokens(job)) for job in made().jobs]
    assert sum(map(len, tokens)) == len(set().union(*tokens))


def test_shared_prefixes_come_first_and_are_as_many_as_asked() -> None:
    workload = made(prefix_tokens=7, prefixes=3)
    heads = {job.segments[0] for job in workload.jobs}
    assert {segment.length for segment in heads} == {7}
    assert len({distinct_tokens(job)[:7] for job in workload.jobs}) == len(heads) == 3
    assert len({job.segments[1].seed for job in workload.jobs} - {s.seed for s in heads}) == 50


def test_workloads_of_different_seeds_share_no_prompt() -> None:
    one, other = (
        {segment.seed for job in made(seed=seed, prefix_tokens=4).jobs for segment in job.segments}
        for seed in (1, 2)
    )
    assert not one & other


def test_the_name_tells_sizes() -> None:
    workload = made(prompt=parse_lengths("10"), output=parse_lengths("3"), prefix_tokens=5)
    assert workload.name == "50 requests, prompt 15 and output 3 on average"


def test_other_arrivals_leave_all_else() -> None:
    workload = made()
    moved = rearrive(workload, at_once)
    assert {job.at for job in moved.jobs} == {0}
    assert rearrive(moved, poisson(2), seed=1) == workload


def test_spread_is_deviation_over_mean() -> None:
    assert coefficient_of_variation(made(output=parse_lengths("9"))) == 0
    # Of 1 and 3 at even odds: deviation 1, mean 2.
    law = iter([1, 3] * 25)
    assert coefficient_of_variation(made(output=lambda _random: next(law))) == 0.5


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"requests": 0}, "requests"),
        ({"requests": 10**9}, "requests"),
        ({"prefix_tokens": -1}, "prefix_tokens"),
        ({"prefixes": 0}, "prefixes"),
        ({"cap": 0}, "cap"),
    ],
)
def test_sizes_out_of_bounds_are_named(changes: dict[str, int], field: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        made(**changes)
    assert caught.value.field == field
