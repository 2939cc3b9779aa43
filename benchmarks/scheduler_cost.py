"""What planning costs: milliseconds of one plan and commit, without any model.

Run it with the interpreter of the checkout's environment. It prints the median and the 99th
percentile under the policy `paced`, without objectives and with them, for 64 and 256 decoding
sequences with contexts of about 300 tokens, and for 256 with 1,000 requests waiting: where slots or
memory have no room for more, or become free every few steps. Where those that wait "can be on time"
(elsewhere they are relegated soon) each is a caller of its own, and the policy looks at as many of
them as it ever does. Step times are those of Llama-3.1-8B on an H100; it counts process time.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from random import Random
from time import process_time

from headway.perf.records.summary import percentile
from headway.perf.sim.roofline import known_device, known_model, roofline_profile
from headway.scheduling.build import build_scheduler
from headway.scheduling.scheduler import Scheduler
from headway.scheduling.stats import Idle
from headway.steptime.online import step_times_of
from headway.types import Limits, Request, ResolvedSampling, Sampled, StepPlan, StepResult
from headway.types.engine import PolicyConfig, SchedulerConfig
from headway.types.objectives import Objective, parse_objectives

BLOCK_SIZE = 32
CONTEXT = 300
STEPS = 400
STEP_SECONDS = 0.02
SLO = parse_objectives("ttft_p99=1s,tpot_p99=50ms")
PATIENT = parse_objectives("ttft_p99=1min,tpot_p99=50ms")


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """Requests that are there from the start, and what they are served with."""

    name: str
    decoding: int
    waiting: int = 0
    blocks: int = 64 * 1024
    slots: int = 256
    churn: bool = False
    """They have 100 to 1,000 tokens to generate, and so come and go."""
    in_time: bool = False
    """Those that wait can be on time, and are callers of their own."""


CASES = (
    Case(name="64 decode", decoding=64, slots=64),
    Case(name="256 decode", decoding=256),
    Case(name="256 decode, 1,000 wait for a slot", decoding=256, waiting=1000),
    Case(
        name="256 decode, 1,000 wait, requests come and go", decoding=256, waiting=1000, churn=True
    ),
    Case(
        name="  the same, and they can be on time",
        decoding=256,
        waiting=1000,
        churn=True,
        in_time=True,
    ),
    Case(
        name="1,256 share memory for about 200, come and go",
        decoding=256,
        waiting=1000,
        blocks=4000,
        slots=1024,
        churn=True,
    ),
    Case(
        name="  the same, and they can be on time",
        decoding=256,
        waiting=1000,
        blocks=4000,
        slots=1024,
        churn=True,
        in_time=True,
    ),
)


def request_of(
    index: int,
    random: Random,
    max_tokens: int,
    *,
    objectives: tuple[Objective, ...] = (),
    caller: str = "",
) -> Request:
    return Request(
        id=f"request-{index}",
        prompt=tuple(random.randrange(40_000) for _ in range(CONTEXT)),
        sampling=ResolvedSampling(max_tokens=max_tokens, seed=index, stop_token_ids=(2,)),
        arrival=0.0,
        objectives=objectives,
        caller=caller,
    )


def scheduler_of(case: Case) -> Scheduler:
    profile = roofline_profile(
        known_device("h100"),
        known_model("llama-3.1-8b"),
        dtype="bfloat16",
        kv_cache_dtype="bfloat16",
    )
    config = SchedulerConfig(
        policy=PolicyConfig(name="paced"),
        limits=Limits(
            max_num_seqs=case.slots,
            max_num_batched_tokens=8192,
            max_num_partial_prefills=4,
            max_model_len=4096,
        ),
        num_blocks=case.blocks,
        block_size=BLOCK_SIZE,
    )
    return build_scheduler(config, step_times=step_times_of(profile.sizes, profile.machine))


def computed(plan: StepPlan) -> StepResult:
    sampled = [Sampled(seq=piece.seq, tokens=(5,)) for piece in plan.slices if piece.outputs]
    return StepResult(step=plan.step, sampled=sampled)


def measure(case: Case, *, objectives: bool) -> list[float]:
    """Seconds of plan and commit, step by step, once all admitted sequences decode."""
    random = Random(1)
    scheduler = scheduler_of(case)
    for index in range(case.decoding + case.waiting):
        most = random.randrange(100, 1000) if case.churn else 2000
        request = request_of(
            index,
            random,
            most,
            objectives=(PATIENT if case.in_time else SLO) if objectives else (),
            caller=str(index) if case.in_time else "",
        )
        scheduler.add(request)
    seconds = []
    for step in range(STEPS + 100):
        now = step * STEP_SECONDS
        start = process_time()
        plan = scheduler.plan(now)
        middle = process_time()
        if isinstance(plan, Idle):
            raise RuntimeError("the benchmark ran out of requests")
        result = computed(plan)
        resumed = process_time()
        scheduler.commit(plan, result, now + STEP_SECONDS)
        if step >= 100:
            seconds.append(process_time() - resumed + middle - start)
    return seconds


def figures(seconds: list[float]) -> str:
    median, p99 = percentile(seconds, 50), percentile(seconds, 99)
    return f"{median * 1e3:12.3f} {p99 * 1e3:8.3f}"


def main() -> None:
    head = f"{'median':>12} {'p99':>8}"
    sys.stdout.write(
        f"{'':48}{'no objectives, ms':>21}{'objectives, ms':>21}\n{'':48}{head}{head}\n"
    )
    for case in CASES:
        without = figures(measure(case, objectives=False))
        sys.stdout.write(f"{case.name:48}{without}{figures(measure(case, objectives=True))}\n")


if __name__ == "__main__":
    main()
