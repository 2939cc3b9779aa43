"""Figures of the whole engine for the page, made once a second while somebody watches.

Rates and shares are those of the time since the last ones. All comes from what the API process
knows anyway: the engine's counters, the metrics, and the explanation that `/slo` has.
"""

from __future__ import annotations

from dataclasses import dataclass
from statistics import median

from headway.client import EngineHandle, ReplicaState
from headway.client.response_cache import CachingEngine
from headway.server.metrics import Metrics
from headway.server.replicas import kv_usage
from headway.server.slo import Explainer, LimitChange
from headway.steptime.explanation import LimitingFactor, LimitSetting, Widths
from headway.types import SERVICE_CLASSES
from headway.types.fleet import Role
from headway.types.objectives import Metric
from headway.wire import EngineStats

MOST_STEPS = 1000
"""Steps between two frames whose durations are looked at."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StepSums:
    """Steps since the last frame; seconds are those of whole cycles, planning included."""

    count: int
    shortest: float
    median: float
    longest: float
    tokens: int
    """New ones, of prompts and answers."""


class CycleTimes:
    """Collects how long steps take; an `EngineListener`'s statistics are given to `see`."""

    def __init__(self, stats: EngineStats) -> None:
        self._last = stats
        self._seconds: list[float] = []
        self._tokens = 0

    def see(self, stats: EngineStats) -> None:
        """Statistics after a step, or after something else."""
        seconds = stats.busy_seconds - self._last.busy_seconds
        if seconds > 0 and len(self._seconds) < MOST_STEPS:
            self._seconds.append(seconds)
        self._tokens += max(0, stats.computed_tokens - self._last.computed_tokens)
        self._last = stats

    def take(self) -> StepSums | None:
        """Of those since the last call; None without any."""
        seconds, tokens = self._seconds, self._tokens
        self._seconds, self._tokens = [], 0
        if not seconds:
            return None
        return StepSums(
            count=len(seconds),
            shortest=min(seconds),
            median=median(seconds),
            longest=max(seconds),
            tokens=tokens,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchChoice:
    """The batch that the explanation allows, and what binds it; see `Explanation`.

    Of several engines it is one's batch, and the rates are those of all.
    """

    limiting_factor: LimitingFactor
    metric: Metric | None
    step_limit: float | None
    limit_setting: LimitSetting
    width: float
    widths: Widths
    batch: float
    token_budget: int
    requests_per_second: float
    tokens_per_second: float
    load: float | None
    lowest_tpot: float


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveReplica:
    """One engine of several."""

    id: int
    state: ReplicaState
    role: Role
    slots: int
    running: int
    waiting: int
    kv_used: float
    """Share of its KV blocks."""
    restarts: int


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveFigures:
    """Times in seconds; shares from 0 to 1; None: not known, or nothing to take it of."""

    state: str
    """Of the engine; see `EngineState`."""
    policy: str
    max_num_seqs: int
    kv_blocks: int
    block_size: int
    free_blocks: int
    cached_blocks: int
    idle_slots: int
    """Held empty by the policy in the last step."""
    deferred: int
    """Waiting though there is room, as the policy wants it."""
    preemptions: int
    """Since the start, as all counts of events."""
    shed: int
    generated_per_second: float
    computed_per_second: float
    """New tokens, those of prompts as well."""
    busy_share: float
    percent_of_limit: float | None
    prefix_hit_share: float | None
    draft_tokens: int
    accepted_share: float | None
    predicted_seconds: float | None
    bound_seconds: float | None
    attainment: dict[str, float]
    objectives: dict[str, tuple[str, ...]]
    choice: BatchChoice | None
    change: LimitChange | None
    """When and why another factor began to limit the batch; None before one did."""
    cache_hit_share: float | None
    """Of the answers asked for, those that the response cache had, or that joined an equal one."""
    replicas: tuple[LiveReplica, ...]
    """Each of several engines; empty where there is one."""


class FigureMaker:
    """Makes `LiveFigures` from two looks at the engine's counters."""

    def __init__(self, client: EngineHandle, metrics: Metrics, explainer: Explainer) -> None:
        self._client = client
        self._metrics = metrics
        self._explainer = explainer
        self._before = client.stats
        self._answers = self._answered()
        self._generated = metrics.tokens()[1]

    def make(self, seconds: float) -> LiveFigures:
        """Those of the last so many seconds, which passed since the last call."""
        client, before, stats = self._client, self._before, self._client.stats
        generated = self._metrics.tokens()[1]
        new, self._generated, self._before = generated - self._generated, generated, stats
        busy = stats.busy_seconds - before.busy_seconds
        ideal = stats.ideal_seconds - before.ideal_seconds
        drafts = stats.draft_tokens - before.draft_tokens
        (kept, asked), self._answers = self._answers, self._answered()
        scheduler, pacing = client.info.scheduler, stats.pacing
        classes = {name: self._explainer.objectives.get(name, ()) for name in SERVICE_CLASSES}
        ratios = {name: self._metrics.attainment.ratio(name) for name in SERVICE_CLASSES}
        return LiveFigures(
            state=client.state,
            policy=scheduler.policy.name,
            max_num_seqs=scheduler.limits.max_num_seqs,
            kv_blocks=scheduler.num_blocks,
            block_size=scheduler.block_size,
            free_blocks=stats.free_blocks,
            cached_blocks=stats.cached_blocks,
            idle_slots=stats.idle_slots,
            deferred=stats.deferred,
            preemptions=stats.preemptions,
            shed=stats.shed,
            generated_per_second=new / seconds,
            computed_per_second=max(0, stats.computed_tokens - before.computed_tokens) / seconds,
            busy_share=min(1.0, max(0.0, busy / seconds / self._explainer.serving)),
            percent_of_limit=min(100.0, 100 * ideal / busy) if busy > 0 and ideal > 0 else None,
            prefix_hit_share=_share(
                stats.prefix_hits - before.prefix_hits,
                stats.prefix_queries - before.prefix_queries,
            ),
            draft_tokens=max(0, drafts),
            accepted_share=_share(stats.accepted_tokens - before.accepted_tokens, drafts),
            predicted_seconds=None if pacing is None else pacing.predicted_seconds,
            bound_seconds=None if pacing is None else pacing.bound_seconds,
            attainment={name: ratio for name, ratio in ratios.items() if ratio is not None},
            objectives={name: tuple(map(str, given)) for name, given in classes.items()},
            choice=self._choice(),
            change=self._explainer.change,
            cache_hit_share=_share(self._answers[0] - kept, self._answers[1] - asked),
            replicas=self._replicas(),
        )

    def _answered(self) -> tuple[int, int]:
        """By the response cache, of those asked for, since the start."""
        if not isinstance(self._client, CachingEngine):
            return 0, 0
        counts = self._client.counts
        return counts.hits + counts.joined, counts.queries

    def _replicas(self) -> tuple[LiveReplica, ...]:
        statuses = self._client.replicas
        if len(statuses) == 1:
            return ()
        return tuple(
            LiveReplica(
                id=each.id,
                state=each.state,
                role=each.role,
                slots=each.info.scheduler.limits.max_num_seqs,
                running=each.stats.running,
                waiting=each.stats.waiting,
                kv_used=round(kv_usage(each), 3),
                restarts=each.restarts,
            )
            for each in statuses
        )

    def _choice(self) -> BatchChoice | None:
        found = self._explainer.explanation()
        if found is None:
            return None
        values = {name: getattr(found, name) for name in BatchChoice.__dataclass_fields__}
        for name in ("requests_per_second", "tokens_per_second"):  # which all engines have together
            values[name] *= self._explainer.serving
        return BatchChoice(**values)


def _share(part: int, whole: int) -> float | None:
    return max(0.0, min(1.0, part / whole)) if whole > 0 else None
