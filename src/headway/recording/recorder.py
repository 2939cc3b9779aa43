"""Turns what happens in an engine into the lines of a recording.

A step is only kept when it happens, and told later with its neighbours: between two steps that
stream all weights through the caches, the code for one line costs six times what it does in a row.
Where lines go is the sink's to know; a test collects them in a list, an engine process appends them
to a file.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from headway.recording.format import EngineLine, Line, RequestLine, SliceLine, StepLine
from headway.scheduling.sequence import salt_of
from headway.scheduling.stats import IdleStats
from headway.types import FinishReason, Request, StepPlan, StepResult, TokenEvent
from headway.types.block_hash import block_hashes

FLUSH_SECONDS = 1.0
"""Lines of a busy engine are in their place no later than this."""
TOLD_TOGETHER = 16
"""Most steps that are kept before they are told: telling them must not hold up the next one."""
_DIGITS = 16
_MICROSECONDS = 6


class Sink(Protocol):
    """Takes complete lines."""

    def write(self, line: Line) -> None: ...

    def flush(self) -> None:
        """Bring all that was written to where it stays if this process ends."""
        ...


@dataclass(slots=True, kw_only=True)
class _Life:
    """A request that is in the house."""

    request: Request
    seq: int
    step: int
    tokens: list[int] = field(default_factory=list)


@dataclass(slots=True)
class _Seen:
    """A step that is not told yet, or not all of it."""

    plan: StepPlan
    seconds: float
    events: Sequence[TokenEvent]
    leftover: IdleStats
    began: float
    ended: float | None = None
    """When its cycle was over; its line waits for that."""


class Recorder:
    """A `Watch` of the engine that writes what it sees to a sink.

    `leftover` is asked after every step.
    """

    def __init__(
        self, *, engine: EngineLine, leftover: Callable[[], IdleStats], sink: Sink
    ) -> None:
        self._engine = engine
        self._leftover = leftover
        self._sink = sink
        self._lives: dict[str, _Life] = {}
        self._added = 0
        self._step = 0
        self._seen: list[_Seen] = []
        self._flushed = 0.0
        sink.write(engine)
        sink.flush()

    def added(self, request: Request, event: TokenEvent | None, now: float) -> None:  # noqa: ARG002
        if event is not None and event.finish == "error":
            life = _Life(request=request, seq=0, step=self._step + 1)
            self._end(life, "error", end_step=0)
            return
        self._added += 1
        life = _Life(request=request, seq=self._added, step=self._step + 1)
        if event is None:
            if request.id in self._lives:  # of an earlier request, whose end is not told yet
                self._tell()
            self._lives[request.id] = life
        elif event.finish is not None:
            self._end(life, event.finish, end_step=self._step)

    def aborted(self, request_id: str, now: float) -> None:  # noqa: ARG002
        self._tell()
        life = self._lives.pop(request_id, None)
        if life is not None:
            self._end(life, "abort", end_step=self._step)

    def stepped(
        self,
        plan: StepPlan,
        result: StepResult,
        events: Sequence[TokenEvent],
        began: float,
        now: float,  # noqa: ARG002
    ) -> None:
        self._close(began)
        self._step = plan.step
        self._seen.append(_Seen(plan, result.seconds, events, self._leftover(), began))
        if began - self._flushed > FLUSH_SECONDS:
            self._flush(began)
        elif len(self._seen) > TOLD_TOGETHER:
            self._tell()

    def idle(self, now: float) -> None:
        self._close(now)
        self._flush(now)

    def _close(self, now: float) -> None:
        """The last step's cycle is over, if it was not before."""
        if self._seen and self._seen[-1].ended is None:
            self._seen[-1].ended = now

    def _tell(self) -> None:
        """Write what is known: of a step whose cycle goes on, only the requests that it ended."""
        for seen in self._seen:
            self._hear(seen)
            if seen.ended is not None:
                self._sink.write(_line(seen, seen.ended))
        self._seen = [seen for seen in self._seen[-1:] if seen.ended is None]

    def _hear(self, seen: _Seen) -> None:
        for event in seen.events:
            life = self._lives[event.id]
            life.tokens += event.tokens
            if event.finish is not None:
                del self._lives[event.id]
                self._end(life, event.finish, end_step=seen.plan.step)
        seen.events = ()

    def _flush(self, now: float) -> None:
        self._tell()
        self._sink.flush()
        self._flushed = now

    def _end(self, life: _Life, finish: FinishReason, *, end_step: int) -> None:
        request, sampling = life.request, life.request.sampling
        self._sink.write(
            RequestLine(
                id=request.id,
                seq=life.seq,
                arrival=request.arrival,
                step=life.step,
                end_step=end_step,
                prompt_tokens=len(request.prompt),
                resumed=len(request.generated),
                output_tokens=len(request.generated) + len(life.tokens),
                max_tokens=sampling.max_tokens,
                stops=bool(sampling.stop_token_ids),
                finish=finish,
                prompt_logprobs=sampling.prompt_logprobs is not None,
                priority=request.priority,
                group=request.group,
                hashes=self._hashes(life) if life.seq else (),
            )
        )

    def _hashes(self, life: _Life) -> tuple[str, ...]:
        request = life.request
        salt = salt_of(request, prefix_caching=self._engine.scheduler.prefix_caching)
        if salt is None:
            return ()
        tokens = [*request.prompt, *request.generated, *life.tokens]
        return tuple(
            digest.hex()[:_DIGITS]
            for digest in block_hashes(tokens, self._engine.scheduler.block_size, salt)
        )


def _line(seen: _Seen, ended: float) -> StepLine:
    plan = seen.plan
    return StepLine(
        step=plan.step,
        at=seen.began,
        cycle=round(ended - seen.began, _MICROSECONDS),
        run=round(seen.seconds, _MICROSECONDS),
        slices=tuple(
            [SliceLine(part.seq, part.start, len(part.tokens), part.sample) for part in plan.slices]
        ),
        ended=tuple(plan.ended),
        idle_slots=seen.leftover.idle_slots,
        waiting=seen.leftover.waiting,
    )
