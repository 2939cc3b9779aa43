"""A workload through a simulated fleet: the records a client would have, and what each replica did.

Same workload, same setup, same seed: the same answer, to the last bit.

Simulations as runs of a report, like those that were measured.
"""

from __future__ import annotations

import gc
from collections import Counter
from collections.abc import Iterator, Mapping
from collections.abc import Sequence as Seq
from contextlib import contextmanager
from dataclasses import dataclass, replace
from operator import attrgetter
from random import Random
from statistics import fmean, pstdev

from headway.clock import VirtualClock
from headway.config import KVReservation, PolicyName
from headway.perf.records.record import RequestRecord
from headway.perf.records.summary import summarize
from headway.perf.report.run import Bar, Run
from headway.perf.sim.fleet import RouterName, make_router, run_fleet
from headway.perf.sim.replica import Replica
from headway.perf.sim.results import SimulatedAnswer, record_of
from headway.perf.sim.runner import Preempted, SimulatedRunner, Slots, StepTimeSampler
from headway.perf.workload.workload import Workload
from headway.scheduling import Scheduler
from headway.scheduling.block_pool import BlockPool
from headway.scheduling.policy import make_policy
from headway.steptime.profiles import Profile
from headway.types import Limits
from headway.types.objectives import Objective


@dataclass(frozen=True, slots=True, kw_only=True)
class Setup:
    """A fleet of equal replicas. The profile says how fast each of them is."""

    profile: Profile
    limits: Limits
    num_blocks: int
    block_size: int
    policy: PolicyName = "continuous"
    dynamic_wait: float = 0.05
    prefix_caching: bool = True
    kv_reservation: KVReservation = "on-demand"
    replicas: int = 1
    router: RouterName = "round-robin"


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplicaFigures:
    """What one replica did; seconds."""

    steps: int
    busy: float
    ideal: float
    """Seconds that its steps would take at the machine's limits."""
    slot_seconds: float
    """Time that sequences spent in its batch, summed."""
    slots: int
    """Slots of its batch that were ever taken."""
    preemptions: int
    computed_tokens: int
    prefix_hits: int
    bars: tuple[Bar, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Simulated:
    """What became of a workload."""

    records: tuple[RequestRecord, ...]
    """In the workload's order."""
    duration: float
    """Seconds from the workload's start to its last token."""
    gaps: Mapping[int, int]
    """Times between tokens of one answer: whole microseconds, and how many."""
    replicas: tuple[ReplicaFigures, ...]

    @property
    def percent_of_limit(self) -> float | None:
        """Over all replicas and steps; None where no step was made."""
        busy = sum(replica.busy for replica in self.replicas)
        return 100 * sum(replica.ideal for replica in self.replicas) / busy if busy else None

    @property
    def idle_share(self) -> float | None:
        """Share of the time of all slots that were ever used in which nobody sat in them."""
        slots = sum(replica.slots for replica in self.replicas)
        if not slots or not self.duration:
            return None
        seated = sum(replica.slot_seconds for replica in self.replicas)
        return 1 - seated / (slots * self.duration)


def simulate(
    workload: Workload,
    setup: Setup,
    *,
    seed: int = 0,
    residuals: bool = True,
    keep_bars: bool = False,
    skipping: bool = True,
) -> Simulated:
    """Run the workload. Without `residuals` every step takes exactly its predicted time.

    `skipping` False makes every step one by one, which is much slower and gives the same.
    """
    run = _Run(seed=seed, residuals=residuals, keep_bars=keep_bars, skipping=skipping)
    if setup.prefix_caching and not shares_beginnings(workload):
        # Only who is preempted could hit anything, which mostly is nobody, and naming all blocks
        # would be half of the work.
        try:
            return _simulate(workload, replace(setup, prefix_caching=False), run, preemption=False)
        except Preempted:
            pass
    return _simulate(workload, setup, run, preemption=True)


def shares_beginnings(workload: Workload) -> bool:
    """Whether any two prompts begin alike."""
    return len({job.segments[0].seed for job in workload.jobs}) < len(workload.jobs)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Run:
    """Arguments of `simulate`."""

    seed: int
    residuals: bool
    keep_bars: bool
    skipping: bool


def _simulate(workload: Workload, setup: Setup, run: _Run, *, preemption: bool) -> Simulated:
    answers = [
        SimulatedAnswer(index=index, job=job, arrival=job.at, prompt_tokens=job.prompt_tokens)
        for index, job in enumerate(workload.jobs)
    ]
    gaps: Counter[int] = Counter()
    replicas = [
        _make_replica(
            setup,
            runner=_make_runner(
                setup,
                answers=answers,
                gaps=gaps,
                random=Random(f"{run.seed} {number}") if run.residuals else None,  # noqa: S311
                keep_bars=run.keep_bars,
                preemption=preemption,
            ),
            skipping=run.skipping,
        )
        for number in range(setup.replicas)
    ]
    with _rarely_collecting():
        run_fleet(replicas, make_router(setup.router), answers)
        records = tuple([record_of(answer) for answer in answers])
    return Simulated(
        records=records,
        duration=max((answer.last for answer in answers), default=0.0),
        gaps=gaps,
        replicas=tuple(_figures(replica) for replica in replicas),
    )


def make_scheduler(setup: Setup) -> Scheduler:
    """The shipped scheduler, as an engine with these settings would have it."""
    return Scheduler(
        policy=make_policy(setup.policy, dynamic_wait=setup.dynamic_wait),
        pool=BlockPool(num_blocks=setup.num_blocks, block_size=setup.block_size),
        limits=setup.limits,
        prefix_caching=setup.prefix_caching,
        reserve_all=setup.kv_reservation == "full",
    )


def _make_runner(
    setup: Setup,
    *,
    answers: list[SimulatedAnswer],
    gaps: Counter[int],
    random: Random | None,
    keep_bars: bool,
    preemption: bool,
) -> SimulatedRunner:
    profile = setup.profile
    return SimulatedRunner(
        clock=VirtualClock(),
        pace=StepTimeSampler(
            profile.step_times(),
            profile.residuals,
            random,
        ),
        answers=answers,
        gaps=gaps,
        slots=Slots(keep_bars=keep_bars),
        window=profile.sizes.window,
        preemption=preemption,
    )


def _make_replica(setup: Setup, *, runner: SimulatedRunner, skipping: bool) -> Replica:
    return Replica(scheduler=make_scheduler(setup), runner=runner, skipping=skipping)


def _figures(replica: Replica) -> ReplicaFigures:
    stats, tally, slots = replica.scheduler.stats(), replica.runner.tally, replica.runner.slots
    return ReplicaFigures(
        steps=tally.steps,
        busy=tally.busy,
        ideal=tally.ideal,
        slot_seconds=slots.seconds,
        slots=slots.used,
        preemptions=stats.preemptions,
        computed_tokens=stats.computed_tokens,
        prefix_hits=stats.prefix_hits,
        bars=tuple(sorted(slots.bars, key=attrgetter("begin", "slot"))),
    )


@contextmanager
def _rarely_collecting() -> Iterator[None]:
    """A simulation makes millions of objects and no cycles: looking for some costs much time."""
    thresholds = gc.get_threshold()
    gc.set_threshold(1_000_000, 50, 1000)
    try:
        yield
    finally:
        gc.set_threshold(*thresholds)


MOST_BARS = 5000
"""Requests of which every stay in the batch is kept for a chart."""


def run_of(
    outcome: Simulated,
    *,
    workload: Workload,
    setup: Setup,
    system: str,
    objectives: Seq[Objective] = (),
) -> Run:
    """The simulation as one system on one workload; its bars are the first replica's."""
    first = outcome.replicas[0]
    return Run(
        system=system,
        group=workload.name,
        kind="simulated",
        settings=settings_of(setup),
        spread=spread_of(workload),
        rate=rate_of(workload),
        summary=summarize(
            outcome.records, duration=outcome.duration, objectives=objectives, gaps=outcome.gaps
        ),
        records=outcome.records,
        slots=first.slots or None,
        bars=first.bars,
        idle_share=outcome.idle_share,
        percent_of_limit=outcome.percent_of_limit,
    )


def settings_of(setup: Setup) -> dict[str, str | int | float]:
    """What was set, for people."""
    settings: dict[str, str | int | float] = {
        "policy": setup.policy,
        "max_num_seqs": setup.limits.max_num_seqs,
        "max_num_batched_tokens": setup.limits.max_num_batched_tokens,
        "KV cache tokens": setup.num_blocks * setup.block_size,
        "kv_reservation": setup.kv_reservation,
    }
    if setup.replicas > 1:
        settings |= {"replicas": setup.replicas, "router": setup.router}
    return settings


def spread_of(workload: Workload) -> float | None:
    """Standard deviation of the output lengths over their mean."""
    outputs = [job.output for job in workload.jobs]
    return pstdev(outputs) / fmean(outputs) if outputs else None


def rate_of(workload: Workload) -> float | None:
    """Requests offered a second; None where all come at once."""
    last = workload.jobs[-1].at if workload.jobs else 0.0
    return len(workload.jobs) / last if last > 0 else None
