"""A scheduler on a clock that step times move: who got which token when."""

from __future__ import annotations

from dataclasses import dataclass, field

from headway.scheduling.block_pool import BlockPool
from headway.scheduling.policy import Policy
from headway.scheduling.scheduler import Scheduler
from headway.scheduling.speculation.speculation import Speculation
from headway.scheduling.stats import Idle
from headway.steptime.online import StepTimes
from headway.steptime.shape import StepShape, shape_of
from headway.types import Limits, Request, Sampled, Slice, StepPlan, StepResult

TOKEN = 7


@dataclass
class Ran:
    """What became of some requests."""

    steps: list[tuple[float, StepShape, float]] = field(default_factory=list)
    """When each step began, its shape, and its seconds."""
    plans: list[StepPlan] = field(default_factory=list)
    tokens: dict[str, list[float]] = field(default_factory=dict)
    shed: dict[str, float] = field(default_factory=dict)
    """Retry after so many seconds."""
    preemptions: int = 0
    relegated: int = 0
    computed: int = 0

    def ttft(self, request: Request) -> float:
        return self.tokens[request.id][0] - request.arrival

    def tpot(self, request: Request) -> float:
        made = self.tokens[request.id]
        return (made[-1] - made[0]) / (len(made) - 1) if len(made) > 1 else 0.0


def run(
    requests: list[Request],
    policy: Policy,
    times: StepTimes,
    *,
    limits: Limits,
    blocks: int = 4096,
    until: float = float("inf"),
    prefix_caching: bool = False,
    speculation: Speculation | None = None,
) -> Ran:
    """Let them arrive and end; a step takes what `times` predict, and every token is `TOKEN`."""
    scheduler = Scheduler(
        policy=policy,
        pool=BlockPool(num_blocks=blocks, block_size=16),
        limits=limits,
        prefix_caching=prefix_caching,
        step_times=times,
        speculation=speculation,
    )
    ran = Ran(tokens={request.id: [] for request in requests})
    coming = sorted(requests, key=lambda request: request.arrival)
    now = 0.0
    while (coming or scheduler.has_work) and now < until:
        while coming and coming[0].arrival <= now:
            scheduler.add(coming.pop(0))
        if not scheduler.has_work:
            now = coming[0].arrival
            continue
        plan = scheduler.plan(now)
        for event in scheduler.take_shed():
            assert event.retry_after is not None
            ran.shed[event.id] = event.retry_after
        if isinstance(plan, Idle):
            assert not scheduler.has_work or coming or plan.until, "idle for good"
            now = min([plan.until or float("inf"), *(each.arrival for each in coming[:1])])
            continue
        shape = shape_of(plan.slices, times.window)
        seconds = times.predict(shape)
        ran.steps.append((now, shape, seconds))
        ran.plans.append(plan)
        now += seconds
        sampled = [_sampled(part) for part in plan.slices if part.outputs]
        for event in scheduler.commit(plan, StepResult(step=plan.step, sampled=sampled), now):
            ran.tokens[event.id] += [now] * len(event.tokens)
        scheduler.check()
    stats = scheduler.stats()
    ran.preemptions, ran.relegated = stats.preemptions, stats.relegated
    ran.computed = stats.computed_tokens
    return ran


def _sampled(part: Slice) -> Sampled:
    right = 0
    for draft in part.tokens[len(part.tokens) - part.outputs + 1 :]:
        if draft != TOKEN:
            break
        right += 1
    return Sampled(seq=part.seq, tokens=(TOKEN,) * (1 + right))
