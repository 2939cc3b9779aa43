"""Turns what happens in an engine into the lines of a recording, and appends them to a file.

A step is only kept when it happens, and written later with its neighbours: between two steps that
stream all weights through the caches, the code for one line costs six times what it does in a row.
A recording never harms its engine: a disk that is full, or a file that has grown beyond its bound,
ends the recording with a warning and nothing else.
"""

from __future__ import annotations

import fcntl
import logging
import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from headway.errors import InvalidRequest
from headway.recording.format import EngineLine, Line, RequestLine, SliceLine, StepLine, encode_line
from headway.scheduling.sequence import salt_of
from headway.scheduling.stats import IdleStats
from headway.types import FinishReason, Request, StepPlan, StepResult, TokenEvent
from headway.types.block_hash import block_hashes

MOST_BYTES = 8 * 2**30
"""A recording stops here: at 64 sequences and 50 steps a second, after more than a day."""
_MOST_BUFFERED = 2**20

logger = logging.getLogger(__name__)


class RecordFile:
    """Appends lines to `path`, which no other engine may be writing to.

    Raises `InvalidRequest` where it cannot be written. Lines are in the file after `flush`.
    """

    def __init__(self, path: Path, *, most_bytes: int = MOST_BYTES) -> None:
        self._path = path
        self._most_bytes = most_bytes
        self._lines: list[bytes] = []
        self._buffered = 0
        self._file: int | None = _take(path)
        self._size = 0
        try:
            self._size = _complete(self._file)
        except OSError as error:
            self._give_up(str(error))

    def write(self, line: Line) -> None:
        """Keep a line until the next flush; nothing once the recording has ended."""
        if self._file is None:
            return
        text = encode_line(line)
        self._lines.append(text)
        self._buffered += len(text)
        if self._buffered > _MOST_BUFFERED:
            self.flush()

    def flush(self) -> None:
        if self._file is None or not self._lines:
            return
        if self._size + self._buffered > self._most_bytes:
            self._give_up(f"it would exceed {self._most_bytes} bytes")
            return
        text = b"".join(self._lines)
        self._lines, self._buffered = [], 0
        self._size += len(text)
        try:
            while text:
                text = text[os.write(self._file, text) :]
        except OSError as error:
            self._give_up(str(error))

    def close(self) -> None:
        """Write what is left, and let another engine have the file."""
        self.flush()
        file, self._file = self._file, None
        if file is not None:
            with suppress(OSError):  # Some file systems tell only now that they are full.
                os.close(file)

    def _give_up(self, reason: str) -> None:
        logger.warning("recording to %s has stopped: %s", self._path, reason)
        self._lines, self._buffered = [], 0
        self.close()


def _take(path: Path) -> int:
    """The file, opened for this process alone."""
    try:
        file = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o666)
    except OSError as error:
        raise InvalidRequest(
            f"cannot record to {path}: {error.strerror}; give a file in a folder that exists and "
            "may be written to",
            field="record",
        ) from error
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(file)
        raise InvalidRequest(
            f"another engine is recording to {path}; give each engine a file of its own",
            field="record",
        ) from error
    return file


def _complete(file: int) -> int:
    """The file's size, after its last line was ended where an earlier engine was cut off."""
    size = os.fstat(file).st_size
    if size and os.pread(file, 1, size - 1) != b"\n":
        size += os.write(file, b"\n")
    return size


FLUSH_SECONDS = 1.0
"""Lines of a busy engine are in their place no later than this."""
STEPS_WRITTEN_TOGETHER = 16
"""Most steps that are kept before they are written: writing must not hold up the next one."""
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
    """A request that is in flight."""

    request: Request
    seq: int
    step: int
    tokens: list[int] = field(default_factory=list)


@dataclass(slots=True)
class _Seen:
    """A step whose line is not written yet."""

    plan: StepPlan
    result: StepResult
    events: Sequence[TokenEvent]
    idle_stats: IdleStats
    began: float
    done: float
    ended: float | None = None
    """When its cycle was over; its line waits for that."""


class Recorder:
    """An `EngineObserver` that writes what it sees to a sink.

    `idle_stats` is asked after every step.
    """

    def __init__(
        self, *, engine: EngineLine, idle_stats: Callable[[], IdleStats], sink: Sink
    ) -> None:
        self._engine = engine
        self._idle_stats = idle_stats
        self._sink = sink
        self._lives: dict[str, _Life] = {}
        self._added = 0
        self._step = 0
        self._seen: list[_Seen] = []
        self._flushed = 0.0
        sink.write(engine)
        sink.flush()

    def on_add(self, request: Request, event: TokenEvent | None, now: float) -> None:  # noqa: ARG002
        if event is not None and event.finish == "error":
            life = _Life(request=request, seq=0, step=self._step + 1)
            self._end(life, "error", end_step=0)
            return
        self._added += 1
        life = _Life(request=request, seq=self._added, step=self._step + 1)
        if event is None:
            if request.id in self._lives:  # of an earlier request, whose end is not written yet
                self._write_seen()
            self._lives[request.id] = life
        elif event.finish is not None:
            self._end(life, event.finish, end_step=self._step)

    def on_abort(self, request_id: str, now: float) -> None:  # noqa: ARG002
        self._write_seen()
        life = self._lives.pop(request_id, None)
        if life is not None:
            self._end(life, "abort", end_step=self._step, aborted_after=self._added)

    def on_shed(self, event: TokenEvent, now: float) -> None:  # noqa: ARG002
        self._write_seen()
        life = self._lives.pop(event.id, None)
        if life is not None:
            self._end(life, "error", end_step=self._step)

    def on_step(
        self,
        plan: StepPlan,
        result: StepResult,
        events: Sequence[TokenEvent],
        began: float,
        now: float,
    ) -> None:
        self._close(began)
        self._step = plan.step
        self._seen.append(_Seen(plan, result, events, self._idle_stats(), began, now))
        if began - self._flushed > FLUSH_SECONDS:
            self._flush(began)
        elif len(self._seen) > STEPS_WRITTEN_TOGETHER:
            self._write_seen()

    def on_idle(self, now: float) -> None:
        self._close(now)
        self._flush(now)

    def _close(self, now: float) -> None:
        """The last step's cycle is over, if it was not before."""
        if self._seen and self._seen[-1].ended is None:
            self._seen[-1].ended = now

    def _write_seen(self) -> None:
        """Write what is known: of a step whose cycle goes on, only the requests that it ended."""
        for seen in self._seen:
            self._note_events(seen)
            if seen.ended is not None:
                self._sink.write(_line(seen, seen.ended))
        self._seen = [seen for seen in self._seen[-1:] if seen.ended is None]

    def _note_events(self, seen: _Seen) -> None:
        for event in seen.events:
            life = self._lives[event.id]
            life.tokens += event.tokens
            if event.finish is not None:
                del self._lives[event.id]
                self._end(life, event.finish, end_step=seen.plan.step)
        seen.events = ()

    def _flush(self, now: float) -> None:
        self._write_seen()
        self._sink.flush()
        self._flushed = now

    def _end(
        self,
        life: _Life,
        finish: FinishReason,
        *,
        end_step: int,
        aborted_after: int | None = None,
    ) -> None:
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
                tenant=request.tenant,
                caller=request.caller,
                objectives=",".join(map(str, request.objectives)),
                service_class=request.service_class,
                aborted_after=aborted_after,
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
        run=round(seen.result.seconds, _MICROSECONDS),
        slices=tuple(
            [
                SliceLine(part.seq, part.start, len(part.tokens), part.outputs)
                for part in plan.slices
            ]
        ),
        ended=tuple(plan.ended),
        given=_given(plan, seen.result),
        idle_slots=seen.idle_stats.idle_slots,
        waiting=seen.idle_stats.waiting,
        done=seen.done,
    )


def _given(plan: StepPlan, result: StepResult) -> tuple[int, ...]:
    """See `StepLine.given`."""
    outputs = [part.outputs for part in plan.slices if part.outputs]
    if max(outputs, default=0) < 2:
        return ()
    pairs = zip(outputs, result.sampled, strict=True)
    return tuple(max(1, len(sampled.tokens)) for number, sampled in pairs if number > 1)
