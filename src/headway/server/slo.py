"""`GET /slo`: the objectives, the batch that they allow at present, and why it is no larger.

`Explainer` makes an explanation from what the engine tells and keeps it for a second, so whoever
asks often, and the metrics, cost next to nothing. Knows no HTTP.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from itertools import chain

from headway.client import EngineHandle, ReplicaStatus
from headway.clock import Clock, MonotonicClock
from headway.steptime.explanation import (
    Explanation,
    LimitingFactor,
    Situation,
    Unheld,
    explain,
    longest_within,
    unheld_at_best,
)
from headway.steptime.margins import BoundedModel
from headway.steptime.model import StepTimeModel
from headway.steptime.slo_report import (
    BatchReport,
    ClassReport,
    LimitsReport,
    ModelReport,
    SloReport,
    SpeculationReport,
    TrafficReport,
)
from headway.types import SERVICE_CLASSES, ServiceClass
from headway.types.objectives import Objective, Pace, pace_of
from headway.types.traffic import Traffic
from headway.wire import EngineInfo, EngineStats, LearnedModel, PacingStats

KEPT_SECONDS = 1.0
"""So long an explanation is good."""

Objectives = Mapping[ServiceClass, tuple[Objective, ...]]


@dataclass(frozen=True, slots=True, kw_only=True)
class LimitChange:
    """That another factor began to limit the batch, for good as it seemed."""

    before: LimitingFactor | None
    """None for the first that was known."""
    after: LimitingFactor
    because: str | None
    """What moved, in words and numbers; None where nothing is known to have."""
    at: float
    """Monotonic seconds."""


class Explainer:
    """For one event loop; `explanation` takes milliseconds once a second, and nothing else.

    Of several engines it explains the one to which most requests come: each has a batch of its own.
    """

    def __init__(
        self,
        client: EngineHandle,
        objectives: Objectives | None = None,
        *,
        attainment: Callable[[ServiceClass], float | None] = lambda _: None,
        clock: Clock | None = None,
    ) -> None:
        """`objectives` are those of requests that bring none, by class."""
        self.objectives: Objectives = objectives or {}
        self._attainment = attainment
        self._client = client
        self._clock = clock or MonotonicClock()
        self.change: LimitChange | None = None
        """The last one, as whoever watches for them has noted it."""
        self._kept: Explanation | None = None
        self._made_at = -math.inf
        self._reach: dict[float, int | None] = {}

    @property
    def most_prompt(self) -> int:
        """Tokens of the longest prompt that the engine takes."""
        return self._busiest().info.scheduler.limits.max_model_len - 1

    @property
    def pacing(self) -> PacingStats | None:
        """What the engine that is explained has told last; None before it has told anything."""
        return self._busiest().stats.pacing

    @property
    def serving(self) -> int:
        """Engines that serve, each as the one that is explained; 1 where none does at present."""
        return max(1, sum(each.state == "ready" for each in self._client.replicas))

    def note_change(
        self, before: LimitingFactor | None, after: LimitingFactor, because: str | None
    ) -> None:
        """Another factor limits the batch from now on."""
        self.change = LimitChange(before=before, after=after, because=because, at=self._clock.now())

    def situation(self, pace: Pace | None = None) -> Situation | None:
        """What the batch follows from now; None where traffic or machine are not known.

        With `pace`, as it would be if that were asked.
        """
        engine = self._busiest()
        info, pacing = engine.info, engine.stats.pacing
        if pacing is None or pacing.model is None or pacing.traffic is None:
            return None
        times = predictor_of(info, pacing.model)
        if times is None:
            return None
        traffic = pacing.traffic.after(self._clock.now() - pacing.at)
        return Situation(
            times=times,
            traffic=traffic if pace is None else replace(traffic, pace=pace),
            kv_tokens=kv_tokens(info),
            limits=info.scheduler.limits,
        )

    def explanation(self) -> Explanation | None:
        """At most a second old; None where there is none yet."""
        now = self._clock.now()
        if now >= self._made_at + KEPT_SECONDS:
            situation = self.situation()
            everyone = dict.fromkeys(chain.from_iterable(self.objectives.values()))
            self._kept = None if situation is None else explain(situation, everyone)
            self._made_at = now
            self._reach.clear()
        return self._kept

    def forget(self) -> None:
        """Explain anew when next asked: the objectives have changed."""
        self._made_at = -math.inf

    def unheld(self) -> tuple[Unheld, ...]:
        """Objectives that cannot be held: with this traffic, or by any request at all."""
        explanation = self.explanation()
        if explanation is not None:
            return explanation.unheld
        times, limits = self._times(), self._busiest().info.scheduler.limits
        if times is None:
            return ()
        everyone = dict.fromkeys(chain.from_iterable(self.objectives.values()))
        return tuple(unheld_at_best(everyone, times, limits))

    def longest_prompt(self, name: ServiceClass) -> int | None:
        """The longest that can keep the class's objective for TTFT; None where it has none."""
        ttft = pace_of(self.objectives.get(name, ())).ttft
        if math.isinf(ttft):
            return None
        if ttft not in self._reach:
            times, limits = self._times(), self._busiest().info.scheduler.limits
            self._reach[ttft] = None if times is None else longest_within(times, limits, ttft)
        return self._reach[ttft]

    def report(self) -> SloReport:
        """All of it."""
        engine = self._busiest()
        info, stats = engine.info, engine.stats
        limits, pacing = info.scheduler.limits, stats.pacing
        unheld = self.unheld()
        return SloReport(
            classes={name: self._class(name, unheld) for name in SERVICE_CLASSES},
            batch=_batch(stats),
            limits=LimitsReport(
                max_num_seqs=limits.max_num_seqs,
                max_num_batched_tokens=limits.max_num_batched_tokens,
                kv_cache_tokens=kv_tokens(info),
                pinned=info.pinned,
            ),
            traffic=None if pacing is None or pacing.traffic is None else _traffic(pacing.traffic),
            model=None if pacing is None or pacing.model is None else _model(pacing.model),
            explanation=self.explanation(),
            speculation=_speculation(info, stats),
            replica=engine.id,
            replicas=len(self._client.replicas),
        )

    def _class(self, name: ServiceClass, unheld: tuple[Unheld, ...]) -> ClassReport:
        texts = tuple(map(str, self.objectives.get(name, ())))
        return ClassReport(
            objectives=texts,
            unheld=tuple(each for each in unheld if each.asked in texts),
            longest_prompt=self.longest_prompt(name),
            attainment=self._attainment(name),
        )

    def _times(self) -> BoundedModel | None:
        engine = self._busiest()
        pacing = engine.stats.pacing
        return predictor_of(engine.info, None if pacing is None else pacing.model)

    def _busiest(self) -> ReplicaStatus:
        """Of those that serve; of equals, the first."""
        now, replicas = self._clock.now(), self._client.replicas
        serving = [each for each in replicas if each.state == "ready"]
        return max(serving or replicas, key=lambda each: _rate(each, now))


def _rate(engine: ReplicaStatus, now: float) -> float:
    """Requests a second that come to it; less than any where that is not known."""
    pacing = engine.stats.pacing
    if pacing is None or pacing.traffic is None:
        return -1.0
    rate = pacing.traffic.after(now - pacing.at).rate
    return math.inf if rate is None else rate


def predictor_of(info: EngineInfo, model: LearnedModel | None) -> BoundedModel | None:
    """The model that an engine plans with, or its prior; None where that cannot be known."""
    if info.sizes is None or info.machine is None:
        return None
    if model is None:
        return BoundedModel(StepTimeModel(info.sizes, info.machine))
    times = StepTimeModel(info.sizes, info.machine, model.coefficients)
    return BoundedModel(times, model.margins)


def kv_tokens(info: EngineInfo) -> int:
    """Tokens that the KV cache holds."""
    return info.scheduler.num_blocks * info.scheduler.block_size


def _speculation(info: EngineInfo, stats: EngineStats) -> SpeculationReport | None:
    config, pacing = info.scheduler.speculation, stats.pacing
    if config is None or not config.most:
        return None
    sequences = 0 if pacing is None or not stats.running else pacing.sequences
    drafting = 0 if pacing is None or not stats.running else pacing.drafting
    off = ""
    if sequences and not drafting:
        most = config.disable_by_batch_size
        if most is not None and sequences > most:
            off = f"more sequences than disable_by_batch_size, {most}"
        else:
            off = "none was found that is expected to pay"
    return SpeculationReport(
        method=config.method,
        off=off,
        sequences=sequences,
        drafting=drafting,
        tokens_per_step=1 + stats.accepted_tokens / stats.drafts if stats.drafts else None,
        acceptance=stats.accepted_tokens / stats.draft_tokens if stats.draft_tokens else None,
        declined=stats.declined,
    )


def _batch(stats: EngineStats) -> BatchReport:
    pacing = stats.pacing
    return BatchReport(
        running=stats.running,
        waiting=stats.waiting,
        step_tokens=stats.step_tokens,
        step_seconds=stats.step_seconds,
        predicted_seconds=None if pacing is None else pacing.predicted_seconds,
        bound_seconds=None if pacing is None else pacing.bound_seconds,
    )


def _traffic(traffic: Traffic) -> TrafficReport:
    def asked(seconds: float) -> float | None:
        return None if math.isinf(seconds) else seconds

    pace = traffic.pace
    return TrafficReport(
        prompt=traffic.prompt,
        cached=traffic.cached,
        output=traffic.output,
        context=traffic.context,
        requests_per_second=traffic.rate,
        ttft=asked(pace.ttft),
        tpot=asked(pace.tpot),
        itl=asked(pace.itl),
        e2el=asked(pace.e2el),
    )


def _model(model: LearnedModel) -> ModelReport:
    margins = model.margins
    return ModelReport(
        status=model.status,
        steps=model.steps,
        error=model.error,
        margin_decode=margins.decode,
        margin_mixed=margins.mixed,
        margin_prefill=margins.prefill,
        off=model.off,
    )
