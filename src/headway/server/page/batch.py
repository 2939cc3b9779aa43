"""The batch as all viewers of the page know it, and what of it changed: rows of numbers.

`SharedBatch` takes the engine's news in and gives deltas that never outgrow a frame: what does not
fit is told by the next ones. Whoever has a snapshot and all deltas since has exactly its `shown`.
Of other tenants' requests a viewer learns that they are there and how far they are: no id, no
class, no objectives. Nothing here says what was asked or answered. Knows no HTTP.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from heapq import heappop, heappush
from itertools import islice

import msgspec
from msgspec.structs import replace

from headway.types import FinishReason, ServiceClass
from headway.types.batch_news import BatchNews, SequenceEnd, SequenceNews, WaitsFor

MOST_ROWS = 64
"""Requests that a delta tells anew, or of which it tells a change that is not progress."""
MOST_PROGRESS = 128
"""Requests that a delta tells the progress of."""
MOST_ENDS = 96
"""Ends that a delta tells."""
STATELY = 5
"""Of so many deltas in a row, one tells how far a decode is; prefills are told by each."""


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
    """The queue and the slots as a whole."""

    slots: int = 0
    running: int = 0
    waiting: int = 0
    waits_for: WaitsFor | None = None
    next: tuple[int, ...] = ()
    """Keys of those that wait, as many as are shown, in the order in which they are next."""


class BatchDelta(msgspec.Struct, frozen=True, kw_only=True):
    """What changed; `tenants` has those of `rows`."""

    rows: list[RequestRow]
    tenants: list[str]
    progress: list[RowProgress]
    gone: list[Gone]
    queue: QueueRow | None
    """None where it is as it was."""

    def rows_for(self, tenant: str) -> list[RequestRow]:
        """The rows as this tenant may see them."""
        return seen_by(tenant, zip(self.rows, self.tenants, strict=True))


def seen_by(tenant: str, rows: Iterable[tuple[RequestRow, str]]) -> list[RequestRow]:
    """Rows, each with its tenant, without what is no business of this one."""
    return [row if whose == tenant else _masked(row) for row, whose in rows]


def _masked(row: RequestRow) -> RequestRow:
    return replace(row, name=None, service_class=None, max_tokens=None, ttft=None, tpot=None)


class SharedBatch:
    """For one event loop. Rows are slots of the chart: the lowest that is free is taken."""

    def __init__(self) -> None:
        self.shown: dict[int, RequestRow] = {}
        """What viewers have been told, by key."""
        self.queue = QueueRow()
        """The same of the queue."""
        self.lately_gone: deque[Gone] = deque(maxlen=MOST_ENDS)
        self._true_queue = QueueRow()
        self._true: dict[int, RequestRow] = {}
        """What is so."""
        self._keys: dict[str, int] = {}
        self._tenants: dict[int, str] = {}
        self._slots: dict[int, int] = {}
        self._free: list[int] = []
        self._used = 0
        self._last_key = 0
        self._ends: dict[int, Gone] = {}
        self._deltas = 0

    def update(self, news: BatchNews) -> None:
        """Take the engine's news in."""
        for end in news.ended:
            self._end(end)
        told = {seq.id for seq in (*news.running, *news.waiting)}
        for name in [name for name in self._keys if name not in told]:
            key = self._keys[name]
            row = self._true[key]
            self._forget(name, Gone(key, news.at, None, row.generated))
        for seq in news.waiting:
            self._place(seq, waits=True)
        for seq in news.running:
            self._place(seq, waits=False)
        self._true_queue = QueueRow(
            slots=news.slots,
            running=news.num_running,
            waiting=news.num_waiting,
            waits_for=news.waits_for,
            next=tuple(self._keys[seq.id] for seq in news.waiting),
        )

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
        made = BatchDelta(
            rows=rows,
            tenants=[self._tenants[row.key] for row in rows],
            progress=progress,
            gone=gone,
            queue=queue,
        )
        for end in gone:
            del self._tenants[end.key]
        return made

    def snapshot(self, tenant: str) -> list[RequestRow]:
        """All that is shown, as this tenant may see it."""
        return seen_by(tenant, ((row, self._tenants[key]) for key, row in self.shown.items()))

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

    def _place(self, seq: SequenceNews, *, waits: bool) -> None:
        key = self._keys.get(seq.id)
        if key is None:
            key = self._new_key(seq)
        if waits and key in self._slots:
            self._leave_slot(key)
        elif not waits and key not in self._slots:
            self._take_slot(key)
        self._true[key] = _row(key, seq, self._slots.get(key, -1))

    def _end(self, end: SequenceEnd) -> None:
        """A request is over, which may not have been seen before."""
        seq, known = end.last, self._keys.get(end.last.id)
        waits = seq.scheduled_at is None
        if known is not None and known not in self._slots:
            waits = waits or self._true[known].generated == seq.generated
        # Its blocks are given back, so the engine counts nothing as computed any more.
        computed = max(0, seq.prompt + seq.generated - 1) if seq.generated else seq.computed
        self._place(replace(seq, computed=computed), waits=waits)
        self._forget(seq.id, Gone(self._keys[seq.id], end.at, end.reason, seq.generated))

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

    def _take_slot(self, key: int) -> None:
        if not self._free:
            self._free.append(self._used)
            self._used += 1
        self._slots[key] = heappop(self._free)

    def _leave_slot(self, key: int) -> None:
        heappush(self._free, self._slots.pop(key))


def _row(key: int, seq: SequenceNews, slot: int) -> RequestRow:
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
    )
