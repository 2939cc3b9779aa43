"""The batch as all viewers of the page know it, and what of it changed: rows of numbers.

`SharedBatch` takes the engine's news in and gives deltas that never outgrow a frame: what does not
fit is told by the next ones. Whoever has a snapshot and all deltas since has exactly its `shown`.
Of other tenants' requests a viewer learns that they are there and how far they are: no id, no
class, no objectives. Nothing here says what was asked or answered. Knows no HTTP.

Where several engines tell their batches, each has slots and a queue of its own, and of each so few
requests are shown that all together are hardly more than of one.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Iterable, Mapping
from heapq import heappop, heappush
from itertools import islice

import msgspec
from msgspec.structs import replace

from headway.types import FinishReason, ServiceClass
from headway.types.batch_news import (
    MOST_RUNNING_TOLD,
    MOST_WAITING_TOLD,
    BatchNews,
    SequenceEnd,
    SequenceNews,
    WaitsFor,
)

MOST_ROWS = 64
"""Requests that a delta tells anew, or of which it tells a change that is not progress."""
MOST_PROGRESS = 128
"""Requests that a delta tells the progress of."""
MOST_ENDS = 96
"""Ends that a delta tells."""
STATELY = 5
"""Of so many deltas in a row, one tells how far a decode is; prefills are told by each."""
MOST_QUEUES = 16
"""Engines of several whose queue a delta tells."""


class RequestRow(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One request. Lengths in tokens, times in seconds on the machine's monotonic clock."""

    key: int
    """Its number on this server, for deltas to name it."""
    name: str | None
    """Its id; None for other tenants, as all up to `tpot` then is."""
    service_class: ServiceClass | None
    max_tokens: int | None
    ttft: float | None
    tpot: float | None
    slot: int
    """Row of the chart; -1 while it waits."""
    arrival: float
    scheduled_at: float | None
    first_token_at: float | None
    prompt: int
    cached: int
    computed: int
    generated: int
    preemptions: int
    deferred: bool
    late: bool
    replica: int
    """The engine that has it."""


class RowProgress(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """How far a request is, of which nothing else changed."""

    key: int
    computed: int
    generated: int


class Gone(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A request that is not shown any more."""

    key: int
    at: float
    reason: FinishReason | None
    """None: it goes on, but is not among those that are shown."""
    generated: int


class QueueRow(msgspec.Struct, frozen=True, kw_only=True):
    """The queue and the slots of an engine, or of several as a whole."""

    replica: int = 0
    slots: int = 0
    running: int = 0
    waiting: int = 0
    waits_for: WaitsFor | None = None
    next: tuple[int, ...] = ()
    """Keys of those that wait, as many as are shown, in the order in which they are next; of
    several engines as a whole, none."""


class BatchDelta(msgspec.Struct, frozen=True, kw_only=True):
    """What changed; `tenants` has those of `rows`."""

    rows: list[RequestRow]
    tenants: list[str]
    progress: list[RowProgress]
    gone: list[Gone]
    queue: QueueRow | None
    """None where it is as it was."""
    queues: list[QueueRow]
    """Of several engines, those that changed."""

    def rows_for(self, tenant: str) -> list[RequestRow]:
        """The rows as this tenant may see them."""
        return seen_by(tenant, zip(self.rows, self.tenants, strict=True))


def seen_by(tenant: str, rows: Iterable[tuple[RequestRow, str]]) -> list[RequestRow]:
    """Rows, each with its tenant, without what is no business of this one."""
    return [row if whose == tenant else _masked(row) for row, whose in rows]


def _masked(row: RequestRow) -> RequestRow:
    return replace(row, name=None, service_class=None, max_tokens=None, ttft=None, tpot=None)


class _FreeSlots:
    """An engine's slots as rows of the chart: the lowest that is free is taken."""

    def __init__(self) -> None:
        self._free: list[int] = []
        self._used = 0

    def take(self) -> int:
        if not self._free:
            self._free.append(self._used)
            self._used += 1
        return heappop(self._free)

    def give_back(self, slot: int) -> None:
        heappush(self._free, slot)


class SharedBatch:
    """For one event loop."""

    def __init__(self) -> None:
        self.shown: dict[int, RequestRow] = {}
        """What viewers have been told, by key."""
        self.queue = QueueRow()
        """The same of the queue."""
        self.queues: dict[int, QueueRow] = {}
        """The same of each engine's queue, where there are several."""
        self.lately_gone: deque[Gone] = deque(maxlen=MOST_ENDS)
        self._true_queue = QueueRow()
        self._true: dict[int, RequestRow] = {}
        """What is so."""
        self._keys: dict[str, int] = {}
        self._tenants: dict[int, str] = {}
        self._true_queues: dict[int, QueueRow] = {}
        self._slots: dict[int, tuple[int, int]] = {}
        """Engine and slot of those that run, by key."""
        self._free: dict[int, _FreeSlots] = {}
        self._last_key = 0
        self._ends: dict[int, Gone] = {}
        self._deltas = 0

    @property
    def several(self) -> bool:
        """Whether more than one engine tells its batch."""
        return len(self._true_queues) > 1

    def update(self, news: BatchNews) -> None:
        """Take an engine's news in."""
        replica = news.replica
        for end in news.ended:
            if not self._is_elsewhere(end.last.id, replica):
                self._end(end, replica)
        running, waiting = self._share(news)
        told = {seq.id for seq in (*running, *waiting)}
        self._forget_of(replica, told, news.at)
        for seq in waiting:
            self._place(seq, replica, waits=True)
        for seq in running:
            self._place(seq, replica, waits=False)
        self._true_queues[replica] = QueueRow(
            replica=replica,
            slots=news.slots,
            running=news.num_running,
            waiting=news.num_waiting,
            waits_for=news.waits_for,
            next=tuple(self._keys[seq.id] for seq in waiting),
        )
        self._true_queue = _together(self._true_queues)

    def keep(self, replicas: Collection[int], at: float) -> None:
        """Of all engines only these are left."""
        for replica in [each for each in self._true_queues if each not in replicas]:
            self._forget_of(replica, (), at)
            del self._true_queues[replica]
            self._free.pop(replica, None)
            self.queues.pop(replica, None)
            self._true_queue = _together(self._true_queues)
        if not self.several:
            self.queues.clear()

    def delta(self) -> BatchDelta:
        """What viewers do not know yet, as much of it as fits; from now on they are told."""
        self._deltas += 1
        rows = list(islice(self._changed(), MOST_ROWS))
        self.shown.update((row.key, row) for row in rows)
        progress = list(islice(self._progress(), MOST_PROGRESS))
        for each in progress:
            known = self.shown[each.key]
            self.shown[each.key] = replace(known, computed=each.computed, generated=each.generated)
        gone = [end for end in self._ends.values() if end.key in self.shown][:MOST_ENDS]
        self.lately_gone.extend(gone)
        for end in gone:
            del self._ends[end.key], self.shown[end.key]
            self._true.pop(end.key, None)
        queue = None if self.queue == self._true_queue else self._true_queue
        self.queue = self._true_queue
        queues = list(islice(self._changed_queues(), MOST_QUEUES))
        self.queues.update((each.replica, each) for each in queues)
        made = BatchDelta(
            rows=rows,
            tenants=[self._tenants[row.key] for row in rows],
            progress=progress,
            gone=gone,
            queue=queue,
            queues=queues,
        )
        for end in gone:
            del self._tenants[end.key]
        return made

    def snapshot(self, tenant: str) -> list[RequestRow]:
        """All that is shown, as this tenant may see it."""
        return seen_by(tenant, ((row, self._tenants[key]) for key, row in self.shown.items()))

    def _is_elsewhere(self, name: str, replica: int) -> bool:
        """Whether a request was moved, and another engine has told of it already."""
        key = self._keys.get(name)
        return key is not None and self._true[key].replica != replica

    def _share(self, news: BatchNews) -> tuple[list[SequenceNews], list[SequenceNews]]:
        """Those of an engine's sequences that are shown, which run and which wait."""
        engines = len(self._true_queues.keys() | {news.replica})
        if engines <= 2:
            return news.running, news.waiting
        most_running = max(8, 2 * MOST_RUNNING_TOLD // engines)
        most_waiting = max(2, 2 * MOST_WAITING_TOLD // engines)
        return news.running[:most_running], news.waiting[:most_waiting]

    def _changed_queues(self) -> Iterable[QueueRow]:
        """Of several engines."""
        if self.several:
            for replica, queue in self._true_queues.items():
                if self.queues.get(replica) != queue:
                    yield queue

    def _changed(self) -> Iterable[RequestRow]:
        """Rows that are new, or of which more changed than progress."""
        for key, row in self._true.items():
            known = self.shown.get(key)
            if (
                known is None
                or replace(known, computed=row.computed, generated=row.generated) != row
            ):
                yield row

    def _progress(self) -> Iterable[RowProgress]:
        for key, row in self._true.items():
            known = self.shown.get(key)
            decodes = row.first_token_at is not None
            if key in self._ends or (decodes and (key + self._deltas) % STATELY):
                continue
            if known is not None and (known.computed, known.generated) != (
                row.computed,
                row.generated,
            ):
                yield RowProgress(key, row.computed, row.generated)

    def _place(self, seq: SequenceNews, replica: int, *, waits: bool) -> None:
        key = self._keys.get(seq.id)
        if key is None:
            key = self._new_key(seq)
        engine, slot = self._slots.get(key, (replica, -1))
        if slot >= 0 and (waits or engine != replica):
            self._leave_slot(key)
            slot = -1
        if slot < 0 and not waits:
            slot = self._free.setdefault(replica, _FreeSlots()).take()
            self._slots[key] = replica, slot
        self._true[key] = _row(key, seq, slot, replica)

    def _end(self, end: SequenceEnd, replica: int) -> None:
        """A request is over, which may not have been seen before."""
        seq, known = end.last, self._keys.get(end.last.id)
        waits = seq.scheduled_at is None
        if known is not None and known not in self._slots:
            waits = waits or self._true[known].generated == seq.generated
        # Its blocks are given back, so the engine counts nothing as computed any more.
        computed = max(0, seq.prompt + seq.generated - 1) if seq.generated else seq.computed
        self._place(replace(seq, computed=computed), replica, waits=waits)
        self._forget(seq.id, Gone(self._keys[seq.id], end.at, end.reason, seq.generated))

    def _forget_of(self, replica: int, but: Collection[str], at: float) -> None:
        """What this engine has, as far as is known, it has no more."""
        for name in [name for name in self._keys if name not in but]:
            row = self._true[self._keys[name]]
            if row.replica == replica:
                self._forget(name, Gone(row.key, at, None, row.generated))

    def _forget(self, name: str, gone: Gone) -> None:
        key = self._keys.pop(name)
        if key in self._slots:
            self._leave_slot(key)
        self._ends[key] = gone
        if len(self._ends) > MOST_ENDS and key not in self.shown:
            # More come and go than can be shown: this one never will be.
            del self._ends[key], self._true[key], self._tenants[key]

    def _new_key(self, seq: SequenceNews) -> int:
        self._last_key += 1
        self._keys[seq.id] = self._last_key
        self._tenants[self._last_key] = seq.tenant
        return self._last_key

    def _leave_slot(self, key: int) -> None:
        replica, slot = self._slots.pop(key)
        if replica in self._free:
            self._free[replica].give_back(slot)


def _together(queues: Mapping[int, QueueRow]) -> QueueRow:
    """The queue of one engine as it is, or those of several as one."""
    if len(queues) == 1:
        return next(iter(queues.values()))
    each = queues.values()
    reasons = (queue.waits_for for queue in each if queue.waits_for is not None)
    return QueueRow(
        slots=sum(queue.slots for queue in each),
        running=sum(queue.running for queue in each),
        waiting=sum(queue.waiting for queue in each),
        waits_for=next(reasons, None),
    )


def _row(key: int, seq: SequenceNews, slot: int, replica: int) -> RequestRow:
    return RequestRow(
        key=key,
        name=seq.id,
        service_class=seq.service_class,
        max_tokens=seq.max_tokens,
        ttft=seq.ttft,
        tpot=seq.tpot,
        slot=slot,
        arrival=seq.arrival,
        scheduled_at=seq.scheduled_at,
        first_token_at=seq.first_token_at,
        prompt=seq.prompt,
        cached=seq.cached,
        computed=seq.computed,
        generated=seq.generated,
        preemptions=seq.preemptions,
        deferred=seq.deferred,
        late=seq.late,
        replica=replica,
    )
