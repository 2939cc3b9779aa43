"""A workload through a simulated fleet: the records a client would have, and what each replica did.

The same workload, setup and seed give the same result to the last bit. `run_of` makes it a run of
a report, so that simulations stand beside what was measured.
"""

from __future__ import annotations

import gc
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from collections.abc import Sequence as Seq
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import groupby
from operator import attrgetter
from random import Random

from headway.clock import VirtualClock
from headway.perf.records.attainment import held_to
from headway.perf.records.record import RequestRecord
from headway.perf.records.summary import summarize
from headway.perf.report.run import Bar, Run
from headway.perf.sim.drafts import SimulatedDrafts
from headway.perf.sim.fleet import Replica, run_fleet
from headway.perf.sim.handover import HandedBlocks, Handovers, RoleFleet
from headway.perf.sim.requests import SimulatedRequest, Slots, record_of
from headway.perf.sim.runner import Preempted, SimulatedRunner, StepTimeSampler
from headway.perf.workload.synthetic import length_cv, rate_of
from headway.perf.workload.workload import Workload
from headway.routing import EngineView, RoleRouter, Router, RouterName, make_router, step_costs
from headway.scheduling.block_pool import BlockStore
from headway.scheduling.build import build_scheduler, speculation_of
from headway.scheduling.scheduler import Scheduler
from headway.steptime.online import step_times_of
from headway.steptime.profiles import Profile
from headway.types.engine import SchedulerConfig
from headway.types.fleet import Role
from headway.types.objectives import Objective

PUBLISHED_TRANSFER = 40e9
"""Bytes a second between machines of published rates, while the machines go on computing ..."""
MEASURED_TRANSFER = 1e9
"""... and between engines on CPUs, which compute nothing while they copy."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Setup:
    """A fleet of equal replicas. The profile says how fast each of them is."""

    profile: Profile
    scheduler: SchedulerConfig
    replicas: int = 1
    router: RouterName = "predicted"
    make_router: Callable[[], Router] | None = None
    """Makes a router that has no name here, in place of `router`."""
    roles: tuple[Role, ...] = ()
    """What each replica is for, in their order; none: all do both."""
    fixed_roles: bool = False
    """They do nothing but that; see `RoleRouter`."""
    transfer_rate: float | None = None
    """Bytes a second at which keys and values are copied from replica to replica (None: see
    `PUBLISHED_TRANSFER` and `MEASURED_TRANSFER`)."""
    acceptance: float | None = None
    """Probability that a token computed ahead is right, 0 to 1; None: none is computed ahead, as
    without `SchedulerConfig.speculation`."""

    @property
    def hands_over(self) -> bool:
        """Whether some replica is for prompts alone, and gives its requests to others."""
        return "prefill" in self.roles

    @property
    def transfer_seconds(self) -> float:
        """Of a token's keys and values."""
        measured = self.profile.fit is not None
        rate = self.transfer_rate or (MEASURED_TRANSFER if measured else PUBLISHED_TRANSFER)
        return self.profile.sizes.kv_bytes_per_token / rate


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
    """What came of a workload."""

    records: tuple[RequestRecord, ...]
    """In the workload's order."""
    duration: float
    """Seconds from the workload's start to its last token."""
    gaps: Mapping[int, int]
    """Times between tokens of one answer: whole microseconds, and how many."""
    replicas: tuple[ReplicaFigures, ...]
    handovers: Handovers = field(default_factory=Handovers)

    @property
    def percent_of_limit(self) -> float | None:
        """Over all replicas and steps; None where no step was made."""
        busy = sum(replica.busy for replica in self.replicas)
        if not busy:
            return None
        return min(100.0, 100 * sum(replica.ideal for replica in self.replicas) / busy)

    @property
    def idle_share(self) -> float | None:
        """Share of the time of all slots that were ever used in which no sequence was in them."""
        slots = sum(replica.slots for replica in self.replicas)
        if not slots or not self.duration:
            return None
        used = sum(replica.slot_seconds for replica in self.replicas)
        return max(0.0, 1 - used / (slots * self.duration))


def simulate(
    workload: Workload,
    setup: Setup,
    *,
    seed: int = 0,
    residuals: bool = True,
    keep_bars: bool = False,
    fast_forward: bool = True,
    objectives: Seq[Objective] = (),
) -> Simulated:
    """Run the workload. Without `residuals` every step takes exactly its predicted time.

    Requests without objectives of their own ask for `objectives`, but for batch requests, which ask
    for none. Only some policies keep them.

    `fast_forward` False makes every step one by one, which is much slower and gives the same.
    """
    run = partial(
        _simulate,
        workload,
        seed=seed,
        residuals=residuals,
        keep_bars=keep_bars,
        fast_forward=fast_forward,
        objectives=tuple(objectives),
    )
    kept = setup.hands_over or shares_prefixes(workload)  # blocks are handed over by their names
    if setup.scheduler.prefix_caching and not kept:
        # Only a preempted sequence could hit anything, mostly there is none, and hashing all blocks
        # would be half of the work.
        try:
            uncached = replace(setup, scheduler=replace(setup.scheduler, prefix_caching=False))
            return run(uncached, preemption=False)
        except Preempted:
            pass
    return run(setup, preemption=True)


def shares_prefixes(workload: Workload) -> bool:
    """Whether any two prompts begin with the same segment."""
    return len({request.segments[0].seed for request in workload.requests}) < len(workload.requests)


def _simulate(
    workload: Workload,
    setup: Setup,
    *,
    seed: int,
    residuals: bool,
    keep_bars: bool,
    fast_forward: bool,
    preemption: bool,
    objectives: tuple[Objective, ...],
) -> Simulated:
    requests = _requests(workload, objectives)
    asking = any(request.objectives for request in requests)
    gaps: Counter[int] = Counter()
    replicas = [
        _make_replica(
            setup,
            _make_runner(
                setup,
                requests=requests,
                gaps=gaps,
                random=Random(f"{seed} {number}") if residuals else None,  # noqa: S311
                keep_bars=keep_bars,
                preemption=preemption,
            ),
            seed=seed,
            asking=asking,
            fast_forward=fast_forward,
        )
        for number in range(setup.replicas)
    ]
    with _rarely_collecting():
        handovers = _run(setup, replicas, requests)
        records = tuple([record_of(request) for request in requests])
    return Simulated(
        records=records,
        duration=max((request.last for request in requests), default=0.0),
        gaps=gaps,
        replicas=tuple(_figures(replica) for replica in replicas),
        handovers=handovers,
    )


def _run(setup: Setup, replicas: list[Replica], requests: list[SimulatedRequest]) -> Handovers:
    costs = step_costs(setup.profile.step_times())
    both: Role = "both"
    roles = setup.roles or (both,) * setup.replicas
    views = [EngineView.of(setup.scheduler, costs, role) for role in roles]
    inner = setup.make_router() if setup.make_router else make_router(setup.router)
    if not setup.hands_over:
        router = RoleRouter(inner, setup.fixed_roles) if setup.roles else inner
        run_fleet(replicas, views, router, requests)
        return Handovers()
    fleet = RoleFleet(
        replicas,
        views,
        RoleRouter(inner, setup.fixed_roles),
        requests,
        seconds_per_token=setup.transfer_seconds,
        block_size=setup.scheduler.block_size,
    )
    fleet.run()
    return fleet.handovers


def _make_replica(
    setup: Setup, runner: SimulatedRunner, *, seed: int, asking: bool, fast_forward: bool
) -> Replica:
    waits = setup.profile.fit is not None
    store = None
    if setup.hands_over and setup.scheduler.prefix_caching:
        tokens = setup.scheduler.block_size
        seconds = setup.transfer_seconds * tokens if waits else 0.0
        store = HandedBlocks(runner.clock, seconds)
    return Replica(
        scheduler=_make_scheduler(setup, seed=seed, asking=asking, store=store),
        runner=runner,
        fast_forward=fast_forward,
        tells=setup.replicas > 1,
        waits_to_load=waits,
    )


def _requests(workload: Workload, objectives: tuple[Objective, ...]) -> list[SimulatedRequest]:
    return [
        SimulatedRequest(
            index=index,
            spec=spec,
            arrival=spec.at,
            prompt_tokens=spec.prompt_tokens,
            objectives=held_to(spec, objectives),
        )
        for index, spec in enumerate(workload.requests)
    ]


def _make_scheduler(
    setup: Setup, *, seed: int, asking: bool, store: BlockStore | None = None
) -> Scheduler:
    """`asking`: some request has objectives, so that policies plan with the time of steps."""
    acceptance, profile = setup.acceptance, setup.profile
    proposers = [] if acceptance is None else [SimulatedDrafts(acceptance, seed)]
    times = step_times_of(profile.sizes, profile.machine) if asking or proposers else None
    return build_scheduler(
        setup.scheduler,
        step_times=times,
        speculation=speculation_of(setup.scheduler.speculation, proposers, times),
        store=store,
    )


def _make_runner(
    setup: Setup,
    *,
    requests: list[SimulatedRequest],
    gaps: Counter[int],
    random: Random | None,
    keep_bars: bool,
    preemption: bool,
) -> SimulatedRunner:
    profile = setup.profile
    return SimulatedRunner(
        clock=VirtualClock(),
        step_times=StepTimeSampler(
            profile.step_times(),
            profile.residuals,
            random,
        ),
        requests=requests,
        gaps=gaps,
        slots=Slots(keep_bars=keep_bars),
        window=profile.sizes.window,
        preemption=preemption,
    )


def _figures(replica: Replica) -> ReplicaFigures:
    stats, counts, slots = replica.scheduler.stats(), replica.runner.counts, replica.runner.slots
    return ReplicaFigures(
        steps=counts.steps,
        busy=counts.busy,
        ideal=counts.ideal,
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
"""Most requests of which every bar is kept for a slot chart."""


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
        length_cv=length_cv(workload),
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
    """The setup as a report shows it."""
    scheduler = setup.scheduler
    settings: dict[str, str | int | float] = {
        "policy": scheduler.policy.name,
        "max_num_seqs": scheduler.limits.max_num_seqs,
        "max_num_batched_tokens": scheduler.limits.max_num_batched_tokens,
        "KV cache tokens": scheduler.num_blocks * scheduler.block_size,
        "kv_reservation": scheduler.reservation,
    }
    if setup.acceptance is not None:
        settings["acceptance"] = setup.acceptance
    if setup.replicas > 1:
        settings |= {"replicas": setup.replicas, "router": setup.router}
    if setup.roles:
        settings |= {
            "roles": roles_text(setup.roles),
            "fixed_roles": str(setup.fixed_roles).lower(),
        }
    return settings


def roles_text(roles: Seq[Role]) -> str:
    """Such as "prefill:2,decode:6": what `parse_roles` reads."""
    runs = [(role, len(list(group))) for role, group in groupby(roles)]
    return ",".join(role if count == 1 else f"{role}:{count}" for role, count in runs)
