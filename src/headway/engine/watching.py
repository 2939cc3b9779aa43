"""What an engine tells whoever watches its batch: how far each sequence is, some times a second.

A `BatchWatch` exists while somebody watches, so that it costs nothing otherwise. It sees every
arrival and every end, so that a request which came and went between two tellings is told as well.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable, Sequence
from itertools import islice

from headway.scheduling.scheduler import Scheduler
from headway.scheduling.sequence import Sequence as Live
from headway.types import FinishReason, Request, StepPlan, StepResult, TokenEvent
from headway.types.batch_news import (
    MOST_ENDED_TOLD,
    MOST_RUNNING_TOLD,
    MOST_WAITING_TOLD,
    BatchNews,
    SequenceEnd,
    SequenceNews,
)


class BatchWatch:
    """An `EngineObserver` that tells at most every `interval` seconds, and only what is new."""

    def __init__(self, scheduler: Scheduler, interval: float) -> None:
        self._scheduler = scheduler
        self._interval = interval
        self._next = -math.inf
        self._untold = True
        self._freed = False
        """Somebody ended in the last step, and what that leaves was not planned with yet."""
        self._live: dict[str, Live] = dict(scheduler.queues.by_request)
        self._ended: deque[SequenceEnd] = deque(maxlen=MOST_ENDED_TOLD)

    def due_in(self, now: float) -> float | None:
        """Seconds until there is something to tell, 0 where there is now; None: nothing is new."""
        return max(0.0, self._next - now) if self._untold else None

    def take(self, now: float) -> BatchNews | None:
        """What is to be told `now`; None where nothing is due."""
        if self.due_in(now) != 0:
            return None
        self._next, self._untold = now + self._interval, False
        ended = list(self._ended)
        self._ended.clear()
        queues, waits_for = self._scheduler.queues, self._scheduler.waits_for
        if waits_for in ("memory", "policy") and self._freed:
            waits_for = "step"
        return BatchNews(
            at=now,
            slots=self._scheduler.width,
            num_running=len(queues.running),
            num_waiting=len(queues.waiting),
            running=_told(queues.running, MOST_RUNNING_TOLD),
            waiting=_told(queues.waiting, MOST_WAITING_TOLD),
            ended=ended,
            waits_for=waits_for,
        )

    def on_add(self, request: Request, event: TokenEvent | None, _now: float) -> None:
        """A request was queued; one that ended at once was never in the batch."""
        seq = self._scheduler.queues.by_request.get(request.id)
        if event is None and seq is not None:
            self._live[request.id] = seq
            self._untold = True

    def on_abort(self, request_id: str, now: float) -> None:
        """A live request was ended."""
        self._end(request_id, "abort", now)

    def on_shed(self, event: TokenEvent, now: float) -> None:
        """A waiting request was refused for overload."""
        self._end(event.id, "error", now)

    def on_step(
        self,
        _plan: StepPlan,
        _result: StepResult,
        events: Sequence[TokenEvent],
        _began: float,
        now: float,
    ) -> None:
        """A step is over."""
        self._untold, self._freed = True, False
        for event in events:
            if event.finish is not None:
                self._freed = True
                self._end(event.id, event.finish, now)

    def on_idle(self, _now: float) -> None:
        """Nothing changes by that."""

    def _end(self, request_id: str, reason: FinishReason, now: float) -> None:
        seq = self._live.pop(request_id, None)
        if seq is not None:
            self._ended.append(SequenceEnd(_news(seq), now, reason))
            self._untold = True


def _told(sequences: Iterable[Live], most: int) -> list[SequenceNews]:
    return [_news(seq) for seq in islice(sequences, most)]


def _news(seq: Live) -> SequenceNews:
    request, pace = seq.request, seq.pace
    return SequenceNews(
        id=request.id,
        tenant=request.tenant,
        prompt=len(request.prompt),
        cached=seq.cached_tokens,
        computed=seq.computed,
        generated=seq.generated,
        max_tokens=request.sampling.max_tokens,
        arrival=request.arrival,
        scheduled_at=seq.scheduled_at,
        first_token_at=seq.first_token_at,
        preemptions=seq.preemptions + seq.gave_way,
        deferred=seq.deferred,
        late=seq.late,
        service_class=request.service_class,
        ttft=None if math.isinf(pace.ttft) else pace.ttft,
        tpot=None if math.isinf(pace.tpot) else pace.tpot,
    )
