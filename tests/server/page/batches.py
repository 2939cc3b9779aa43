"""News of batches made by hand, and a viewer that rebuilds the batch from what it is sent."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from msgspec.structs import replace

from headway.server.page.batch import BatchDelta, RequestRow
from headway.types.batch_news import BatchNews, SequenceEnd, SequenceNews

SLOTS = 8


def sequence(name: str, *, tenant: str = "", **changes: Any) -> SequenceNews:
    known = SequenceNews(
        id=name,
        tenant=tenant,
        prompt=20,
        cached=0,
        computed=0,
        generated=0,
        max_tokens=10,
        arrival=1.0,
        scheduled_at=None,
        first_token_at=None,
        preemptions=0,
        deferred=False,
        late=False,
        service_class="standard",
        ttft=None,
        tpot=0.05,
    )
    return replace(known, **changes)


def runs(name: str, *, tenant: str = "", **changes: Any) -> SequenceNews:
    """A sequence that has computed its prompt and half its answer."""
    there = {"computed": 24, "generated": 5, "scheduled_at": 2.0, "first_token_at": 3.0}
    return sequence(name, tenant=tenant, **(there | changes))


def news(
    *running: SequenceNews,
    waiting: Iterable[SequenceNews] = (),
    ended: Iterable[SequenceEnd] = (),
    at: float = 4.0,
    **changes: Any,
) -> BatchNews:
    waits = list(waiting)
    known: dict[str, Any] = {
        "at": at,
        "slots": SLOTS,
        "num_running": len(running),
        "num_waiting": len(waits),
        "waits_for": "slot" if waits else None,
    }
    return BatchNews(running=list(running), waiting=waits, ended=list(ended), **(known | changes))


def end(seq: SequenceNews, at: float = 4.0) -> SequenceEnd:
    return SequenceEnd(seq, at, "stop")


class RowKeeper:
    """What a viewer knows: the rows of a snapshot, changed by every delta since."""

    def __init__(self, rows: Iterable[RequestRow]) -> None:
        self.rows = {row.key: row for row in rows}
        self.gone: list[int] = []

    def apply(self, delta: BatchDelta, tenant: str = "") -> None:
        for row in delta.rows_for(tenant):
            self.rows[row.key] = row
        for each in delta.progress:
            known = self.rows[each.key]
            self.rows[each.key] = replace(known, computed=each.computed, generated=each.generated)
        for left in delta.gone:
            del self.rows[left.key]
            self.gone.append(left.key)
