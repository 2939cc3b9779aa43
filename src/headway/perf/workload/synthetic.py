"""Workloads made up from laws: lengths, arrivals and shared prefixes, repeatable by a seed.

Two workloads with different seeds share no prompt, so that one does not hit what a server's prefix
cache kept of the other.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import islice

from headway.errors import InvalidRequest
from headway.perf.workload.arrivals import Arrivals, rng
from headway.perf.workload.lengths import LengthDistribution
from headway.perf.workload.tokens import first_seed
from headway.perf.workload.workload import (
    LONGEST,
    MOST_REQUESTS,
    Segment,
    Workload,
    WorkloadRequest,
)


def synthesize(
    *,
    requests: int,
    prompt: LengthDistribution,
    output: LengthDistribution,
    arrivals: Arrivals,
    prefix_tokens: int = 0,
    prefixes: int = 1,
    cap: int | None = None,
    seed: int = 0,
) -> Workload:
    """So many jobs.

    A prompt is `prefix_tokens` tokens that it shares with all jobs of the same prefix, one of
    `prefixes` at random, and as many of its own as `prompt` says. `cap` is every job's `max_tokens`
    and cuts longer outputs; None: each job's own output, so that its length is known ahead.
    """
    _check(requests, prefix_tokens, prefixes, cap)
    prompts, outputs = rng(seed, "prompt"), rng(seed, "output")
    chosen = rng(seed, "prefix")
    times = arrivals(rng(seed, "arrivals"))
    first = first_seed(seed)
    jobs = []
    for index, at in enumerate(islice(times, requests)):
        own = Segment(first + prefixes + index, prompt(prompts))
        shared = Segment(first + chosen.randrange(prefixes), prefix_tokens)
        wanted = output(outputs)
        jobs.append(
            WorkloadRequest(
                segments=(shared, own) if prefix_tokens else (own,),
                output=wanted if cap is None else min(wanted, cap),
                cap=wanted if cap is None else cap,
                at=at,
            )
        )
    return _named(tuple(jobs))


def rearrive(workload: Workload, arrivals: Arrivals, *, seed: int = 0) -> Workload:
    """The same jobs in the same order, at other times."""
    times = arrivals(rng(seed, "arrivals"))
    jobs = tuple(replace(job, at=at) for job, at in zip(workload.jobs, times, strict=False))
    return replace(workload, jobs=jobs)


def coefficient_of_variation(workload: Workload) -> float:
    """Standard deviation of the jobs' output lengths over their mean."""
    outputs = [job.output for job in workload.jobs]
    mean = sum(outputs) / len(outputs)
    return float((sum((tokens - mean) ** 2 for tokens in outputs) / len(outputs)) ** 0.5 / mean)


def _named(jobs: tuple[WorkloadRequest, ...]) -> Workload:
    anonymous = Workload(name="", jobs=jobs)
    prompt = anonymous.prompt_tokens / len(jobs)
    output = anonymous.output_tokens / len(jobs)
    return replace(
        anonymous,
        name=f"{len(jobs)} requests, prompt {prompt:.0f} and output {output:.0f} on average",
    )


def _check(requests: int, prefix_tokens: int, prefixes: int, cap: int | None) -> None:
    for name, value, least, most in (
        ("requests", requests, 1, MOST_REQUESTS),
        ("prefix_tokens", prefix_tokens, 0, LONGEST),
        ("prefixes", prefixes, 1, MOST_REQUESTS),
        ("cap", 1 if cap is None else cap, 1, LONGEST),
    ):
        if not least <= value <= most:
            raise InvalidRequest(f"{name} is from {least} to {most}, not {value}", field=name)
