"""Synthetic workloads: lengths, arrivals and shared prefixes drawn at random, repeatable by a seed.

An arrival process gives endless times, in seconds after the first request. Like a length
distribution it is a function of a random number generator; `rng` makes one per seed and purpose, so
that other arrivals leave the lengths as they were. Gamma gaps and ramps follow vLLM's benchmark, so
that its flags mean the same here.

Two workloads with different seeds share no prompt, so that one does not hit what a server's prefix
cache kept of the other. Here are also the variants of a workload: at other times, with other
prompts, or the first few requests as a warm-up.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import count, cycle, islice, repeat
from operator import attrgetter
from random import Random
from statistics import fmean, pstdev
from typing import Literal

from headway.errors import InvalidRequest
from headway.perf.workload.lengths import LengthDistribution
from headway.perf.workload.workload import (
    LONGEST,
    MOST_REQUESTS,
    Segment,
    Workload,
    WorkloadRequest,
    first_seed,
)


def rng(seed: int, purpose: str) -> Random:
    """The generator for this purpose; the same on every machine and in every process."""
    return Random(f"{seed} {purpose}")  # noqa: S311


Arrivals = Callable[[Random], Iterator[float]]
"""Times that never fall, the first one 0."""

Growth = Literal["linear", "exponential"]


def at_once(_random: Random) -> Iterator[float]:
    """All at the start."""
    return repeat(0.0)


def gamma(rate: float, burstiness: float = 1.0) -> Arrivals:
    """So many requests a second on average, the gaps between them gamma distributed.

    `burstiness` is the shape: 1 is Poisson, less comes in bursts, more is more regular, infinite is
    even. (The gaps' standard deviation is their mean over the square root of it.)
    """
    _check_positive("rate", rate)
    _check_positive("burstiness", burstiness)
    if math.isinf(rate):
        return at_once
    return lambda random: _cumulated(_gap(random, rate, burstiness) for _ in repeat(None))


def ramp(
    start: float,
    end: float,
    requests: int,
    growth: Growth = "linear",
    burstiness: float = 1.0,
) -> Arrivals:
    """From `start` to `end` requests a second over so many requests, then on at `end`."""
    _check_positive("first rate", start)
    _check_positive("last rate", end)
    _check_positive("burstiness", burstiness)
    if math.isinf(start) or math.isinf(end):
        raise ValueError("a ramp's rates are finite")
    last = max(1, requests - 1)

    def rate(index: int) -> float:
        progress = min(1.0, index / last)
        if growth == "linear":
            return start + (end - start) * progress
        return start * math.pow(end / start, progress)

    return lambda random: _cumulated(_gap(random, rate(index), burstiness) for index in count())


def _gap(random: Random, rate: float, burstiness: float) -> float:
    if math.isinf(burstiness):
        return 1 / rate
    return random.gammavariate(burstiness, 1 / (rate * burstiness))


def _cumulated(gaps: Iterator[float]) -> Iterator[float]:
    now = 0.0
    while True:
        yield now
        now += next(gaps)


def _check_positive(name: str, number: float) -> None:
    if not number > 0:
        raise ValueError(f"{name} is above 0, not {number:g}")


_WARM_UP_SEEDS = 1 << 40
"""Added to the segment seeds of a warm-up, so that the measurement finds none of them cached."""


def synthesize(
    *,
    num_requests: int,
    prompt: LengthDistribution,
    output: LengthDistribution,
    arrivals: Arrivals,
    prefix_tokens: int = 0,
    prefixes: int = 1,
    cap: int | None = None,
    seed: int = 0,
) -> Workload:
    """A workload of `num_requests` requests.

    A prompt is `prefix_tokens` tokens shared with all requests that drew the same one of
    `prefixes`, and as many of its own as `prompt` draws. `cap` is every request's `max_tokens` and
    cuts longer outputs; None: each request's own output, so that its length is known ahead.
    """
    _check(num_requests, prefix_tokens, prefixes, cap)
    prompts, outputs = rng(seed, "prompt"), rng(seed, "output")
    chosen = rng(seed, "prefix")
    times = arrivals(rng(seed, "arrivals"))
    first = first_seed(seed)
    requests = []
    for index, at in enumerate(islice(times, num_requests)):
        own = Segment(first + prefixes + index, prompt(prompts))
        shared = Segment(first + chosen.randrange(prefixes), prefix_tokens)
        wanted = output(outputs)
        requests.append(
            WorkloadRequest(
                segments=(shared, own) if prefix_tokens else (own,),
                output=wanted if cap is None else min(wanted, cap),
                cap=wanted if cap is None else cap,
                at=at,
            )
        )
    return _named(tuple(requests))


def rearrive(workload: Workload, arrivals: Arrivals, *, seed: int = 0) -> Workload:
    """The same requests in the same order, at other times."""
    times = arrivals(rng(seed, "arrivals"))
    requests = tuple(
        replace(request, at=at) for request, at in zip(workload.requests, times, strict=False)
    )
    return replace(workload, requests=requests)


def at_rate(workload: Workload, scale: float) -> Workload:
    """The same requests, `scale` times as fast."""
    if scale == 1.0:
        return workload
    requests = tuple(replace(request, at=request.at / scale) for request in workload.requests)
    return Workload(name=f"{workload.name}, {scale:.3g} times as fast", requests=requests)


def then(first: Workload, second: Workload) -> Workload:
    """One workload after the other: the second begins an average gap of the first after its end.

    So that they share no prompts, give them different seeds.
    """
    times = [request.at for request in first.requests]
    gap = times[-1] / (len(times) - 1) if len(times) > 1 else 0.0
    begin = times[-1] + gap if times else 0.0
    later = tuple(replace(request, at=begin + request.at) for request in second.requests)
    return Workload(name=f"{first.name}, then {second.name}", requests=first.requests + later)


def beside(first: Workload, second: Workload) -> Workload:
    """Both workloads at the same time; of requests at the same moment the first's come first."""
    both = sorted(first.requests + second.requests, key=attrgetter("at"))
    return Workload(name=f"{first.name}, beside {second.name}", requests=tuple(both))


def with_other_prompts(workload: Workload, nonce: int) -> Workload:
    """The same workload with other tokens: a server may remember the prompts of an earlier run."""
    requests = tuple(
        replace(
            request,
            segments=tuple(
                Segment(each.seed ^ (nonce << 8), each.length) for each in request.segments
            ),
        )
        for request in workload.requests
    )
    return replace(workload, requests=requests)


def warm_up(workload: Workload, count: int, *, max_output: int | None = None) -> Workload:
    """`count` requests like the first ones of a workload, all at once, with prompts of their own.

    They have no objectives, so that none is refused for the haste of the others.
    With `max_output` answers are cut to so many tokens, which the engine knows ahead.
    """
    return Workload(
        name="warm-up",
        requests=tuple(
            _warm_up(request, max_output) for request in islice(cycle(workload.requests), count)
        ),
    )


def _warm_up(request: WorkloadRequest, max_output: int | None) -> WorkloadRequest:
    segments = tuple(Segment(each.seed + _WARM_UP_SEEDS, each.length) for each in request.segments)
    request = replace(request, segments=segments, at=0.0, objectives=())
    if max_output is None:
        return request
    output = min(request.output, max_output)
    return replace(request, output=output, cap=output)


def length_cv(workload: Workload) -> float | None:
    """Coefficient of variation of the output lengths: standard deviation over mean.

    None without requests.
    """
    outputs = [request.output for request in workload.requests]
    return pstdev(outputs) / fmean(outputs) if outputs else None


def rate_of(workload: Workload) -> float | None:
    """Requests offered a second; None where all come at once."""
    last = workload.requests[-1].at if workload.requests else 0.0
    return len(workload.requests) / last if last > 0 else None


def _named(requests: tuple[WorkloadRequest, ...]) -> Workload:
    anonymous = Workload(name="", requests=requests)
    prompt = anonymous.prompt_tokens / len(requests)
    output = anonymous.output_tokens / len(requests)
    return replace(
        anonymous,
        name=f"{len(requests)} requests, prompt {prompt:.0f} and output {output:.0f} on average",
    )


def _check(num_requests: int, prefix_tokens: int, prefixes: int, cap: int | None) -> None:
    for name, value, least, most in (
        ("num_requests", num_requests, 1, MOST_REQUESTS),
        ("prefix_tokens", prefix_tokens, 0, LONGEST),
        ("prefixes", prefixes, 1, MOST_REQUESTS),
        ("cap", 1 if cap is None else cap, 1, LONGEST),
    ):
        if not least <= value <= most:
            raise InvalidRequest(f"{name} is from {least} to {most}, not {value}", field=name)
