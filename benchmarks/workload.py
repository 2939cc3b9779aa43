"""The work that engines are compared on: sizes and arrival times, the same for every run.

Prompts are random token ids, so that any model takes them; lengths depend on a request's number
alone. W0: one stream. W1: 128 requests at once. W2: requests that arrive at random times. W3: 64
requests with a long common beginning.
"""

from __future__ import annotations

import random

from served import Work

PROMPT = 128
FIRST_TOKEN, LAST_TOKEN = 100, 30_000  # in every vocabulary we know


def lengths(requests: int) -> list[int]:
    """Output lengths: exponential with mean 96, clipped to 8..384."""
    draw = random.Random(0)
    return [min(384, max(8, round(draw.expovariate(1 / 96)))) for _ in range(requests)]


def prompts(requests: int, size: int, seed: int) -> list[list[int]]:
    draw = random.Random(seed)
    return [[draw.randrange(FIRST_TOKEN, LAST_TOKEN) for _ in range(size)] for _ in range(requests)]


def streams(requests: int, seed: int) -> list[Work]:
    """W0: 128 tokens in and 128 out each, to be asked one after the other."""
    return [Work(prompt=prompt, tokens=128) for prompt in prompts(requests, PROMPT, seed)]


def burst(requests: int, seed: int, size: int = PROMPT) -> list[Work]:
    """W1 and W2: prompts of one size, outputs of very different lengths."""
    pairs = zip(prompts(requests, size, seed), lengths(requests), strict=True)
    return [Work(prompt=prompt, tokens=tokens) for prompt, tokens in pairs]


def shared(requests: int, seed: int) -> list[Work]:
    """W3: 512 tokens in, of which the first 384 are the same for all, and 16 out."""
    (common,) = prompts(1, 384, seed)
    return [
        Work(prompt=common + own, tokens=16) for own in prompts(requests, 128, seed + 1_000_000)
    ]


def arrivals(rate: float, seconds: float) -> list[float]:
    """Times in [0, seconds) of a Poisson process of so many requests a second."""
    draw = random.Random(7)
    times, now = [], 0.0
    while now < seconds:
        times.append(now)
        now += draw.expovariate(rate)
    return times
