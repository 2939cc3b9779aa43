"""What planning costs: milliseconds of one plan and commit, without any model.

Run it with the interpreter of the checkout's environment. It prints the median and the 99th
percentile for 64 and 256 decoding sequences with contexts of about 300 tokens, and for 256 with
1,000 requests waiting, where memory has room for no more or slots become free every few steps.
"""

from __future__ import annotations

import sys
from random import Random
from time import perf_counter

from headway.perf.records.summary import percentile
from headway.scheduling.build import build_scheduler
from headway.scheduling.stats import Idle
from headway.types import Limits, Request, ResolvedSampling, Sampled, StepPlan, StepResult
from headway.types.engine import SchedulerConfig

BLOCK_SIZE = 32
CONTEXT = 300
STEPS = 400


def request_of(index: int, random: Random, max_tokens: int) -> Request:
    return Request(
        id=f"request-{index}",
        prompt=tuple(random.randrange(40_000) for _ in range(CONTEXT)),
        sampling=ResolvedSampling(max_tokens=max_tokens, seed=index, stop_token_ids=(2,)),
        arrival=float(index),
    )


def computed(plan: StepPlan) -> StepResult:
    sampled = [Sampled(seq=piece.seq, tokens=(5,)) for piece in plan.slices if piece.outputs]
    return StepResult(step=plan.step, sampled=sampled)


def measure(*, decoding: int, waiting: int, blocks: int, slots: int, churn: bool) -> list[float]:
    """Seconds of plan and commit, step by step, once all admitted sequences decode."""
    random = Random(1)
    scheduler = build_scheduler(
        SchedulerConfig(
            limits=Limits(
                max_num_seqs=slots,
                max_num_batched_tokens=8192,
                max_num_partial_prefills=4,
                max_model_len=4096,
            ),
            num_blocks=blocks,
            block_size=BLOCK_SIZE,
        )
    )
    for index in range(decoding + waiting):
        most = random.randrange(100, 1000) if churn else 2000
        scheduler.add(request_of(index, random, most))
    seconds = []
    for step in range(STEPS + 100):
        start = perf_counter()
        plan = scheduler.plan(float(step))
        middle = perf_counter()
        if isinstance(plan, Idle):
            raise RuntimeError("the benchmark ran out of requests")
        result = computed(plan)
        resumed = perf_counter()
        scheduler.commit(plan, result, float(step))
        if step >= 100:
            seconds.append(perf_counter() - resumed + middle - start)
    return seconds


def report(name: str, seconds: list[float]) -> None:
    median, p99 = percentile(seconds, 50), percentile(seconds, 99)
    sys.stdout.write(f"{name:<52} median {median * 1e3:6.3f} ms   p99 {p99 * 1e3:6.3f} ms\n")


def main() -> None:
    ample = 64 * 1024
    for decoding in (64, 256):
        seconds = measure(decoding=decoding, waiting=0, blocks=ample, slots=decoding, churn=False)
        report(f"{decoding} decode", seconds)
    seconds = measure(decoding=256, waiting=1000, blocks=ample, slots=256, churn=False)
    report("256 decode, 1,000 wait for a slot", seconds)
    seconds = measure(decoding=256, waiting=1000, blocks=ample, slots=256, churn=True)
    report("256 decode, 1,000 wait, requests come and go", seconds)
    seconds = measure(decoding=256, waiting=1000, blocks=4000, slots=1024, churn=True)
    report("1,256 share memory for about 200, come and go", seconds)


if __name__ == "__main__":
    main()
