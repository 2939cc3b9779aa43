"""A workload through a simulated fleet: the records a client would have, and what each replica did.

Same workload, same setup, same seed: the same answer, to the last bit.
"""

from __future__ import annotations

import gc
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from operator import attrgetter
from random import Random

from headway.blocks import BlockPool
from headway.config import KVReservation, PolicyName
from headway.latency.profile import Profile
from headway.measurement.record import RequestRecord
from headway.policy import make_policy
from headway.report.run import Bar
from headway.scheduler import Scheduler
from headway.sim.answer import Answer, record_of
from headway.sim.clock import VirtualClock
from headway.sim.fleet import RouterName, make_router, run_fleet
from headway.sim.pace import Pace
from headway.sim.replica import Replica
from headway.sim.runner import Preempted, SimulatedRunner
from headway.sim.slots import Slots
from headway.types import Limits
from headway.workload.job import Workload


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
        Answer(index=index, job=job, arrival=job.at, prompt_tokens=job.prompt_tokens)
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
    answers: list[Answer],
    gaps: Counter[int],
    random: Random | None,
    keep_bars: bool,
    preemption: bool,
) -> SimulatedRunner:
    profile = setup.profile
    return SimulatedRunner(
        clock=VirtualClock(),
        pace=Pace(
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
