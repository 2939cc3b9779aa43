"""`GET /live`: the batch as it happens, as server-sent events, for a few viewers at once.

A viewer gets a snapshot, then frames of what changed, some times a second, and once a second the
figures of the whole engine with them. All viewers share one collection of news, which exists while
somebody watches: without viewers nobody asks the engine for anything. A viewer that does not read
gets a new snapshot once it does, instead of the frames that it missed. Frames hold lengths, times
and ids, never what was asked or answered, and ids only of the viewer's own tenant.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import msgspec
from starlette.requests import Request
from starlette.types import Receive, Send

from headway.background import later, watched
from headway.client import EngineHandle
from headway.client.handle import NEWS_SECONDS
from headway.errors import InvalidRequest, Unavailable
from headway.logs import line
from headway.server.callers import tenant_of
from headway.server.generate import EVENT_STREAM, STREAM_HEADERS
from headway.server.openapi import Endpoint
from headway.server.page.batch import (
    BatchDelta,
    Gone,
    QueueRow,
    RequestRow,
    RowProgress,
    SharedBatch,
)
from headway.server.page.figures import CycleTimes, FigureMaker, LiveFigures, StepSums
from headway.types import TokenEvent
from headway.types.batch_news import BatchNews
from headway.wire import EngineStats

FIGURES_SECONDS = 1.0
"""Between two figures."""
FRAME_BYTES = 32 * 2**10
"""That no frame of changes exceeds: its parts are bounded one by one (see `batch`)."""
SNAPSHOT_BYTES = 128 * 2**10
MOST_UNREAD = 3
"""Frames that a viewer may be behind: those of about half a second."""

log = logging.getLogger(__name__)


class LiveSnapshot(msgspec.Struct, frozen=True, kw_only=True):
    """All that a viewer must know to understand the frames that follow."""

    since: float
    """When this collection of news began: numbers and keys are its own."""
    number: int
    at: float
    """Seconds on the clock of all times here, which has no meaning elsewhere."""
    model: str
    rows: list[RequestRow]
    gone: list[Gone]
    """Of those that are not shown any more, the last ones: a viewer may have missed their end."""
    queue: QueueRow
    queues: list[QueueRow]
    """That of each engine, where there are several."""
    figures: LiveFigures | None


class LiveFrame(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What changed since the frame or snapshot numbered one less; lists that are empty are left
    out, and so is what stayed the same."""

    number: int
    at: float
    rows: list[RequestRow] = []
    progress: list[RowProgress] = []
    gone: list[Gone] = []
    queue: QueueRow | None = None
    queues: list[QueueRow] = []
    steps: StepSums | None = None
    figures: LiveFigures | None = None


class Viewer:
    """One who watches; iterate to get server-sent events as bytes until it leaves."""

    def __init__(self, tenant: str, snapshot: Callable[[], bytes]) -> None:
        self.tenant = tenant
        self._snapshot = snapshot
        self._unread: list[bytes] = []
        self._behind = True
        """It needs a snapshot before any frame."""
        self._left = False
        self._news = asyncio.Event()
        self._news.set()

    def push(self, frame: bytes) -> None:
        """Give it a frame. Beyond a few that it did not take, none is kept: see `MOST_UNREAD`."""
        self._behind = self._behind or len(self._unread) == MOST_UNREAD
        if self._behind:
            self._unread.clear()
        else:
            self._unread.append(frame)
        self._news.set()

    def leave(self) -> None:
        """End its iteration."""
        self._left = True
        self._news.set()

    def __aiter__(self) -> Viewer:
        return self

    async def __anext__(self) -> bytes:
        await self._news.wait()
        if self._left:
            raise StopAsyncIteration
        self._news.clear()
        if self._behind:
            self._behind = False
            return self._snapshot()
        frames = b"".join(self._unread)
        self._unread.clear()
        return frames


class LiveNews:
    """What all viewers share. For one event loop."""

    def __init__(self, most_viewers: int) -> None:
        self._most = most_viewers
        self._closed = False
        self._viewers: list[Viewer] = []
        self._start: Callable[[], LiveCollection] | None = None
        self._collection: LiveCollection | None = None

    @property
    def collection(self) -> LiveCollection | None:
        """None while nobody watches."""
        return self._collection

    def attach(
        self, client: EngineHandle, make_figures: Callable[[], FigureMaker], model: str
    ) -> None:
        """The engine is up: from now on there is something to watch."""
        self._start = lambda: LiveCollection(client, make_figures(), model, self._push)

    @contextmanager
    def watching(self, tenant: str) -> Iterator[Viewer]:
        """A viewer within the block.

        Raises `Unavailable` where there can be none now, `InvalidRequest` where there never is one.
        """
        if self._most == 0:
            raise InvalidRequest("watching is turned off on this server (--max-page-viewers 0)")
        if self._start is None or self._closed:
            raise Unavailable("the server is shutting down" if self._closed else "starting")
        if len(self._viewers) >= self._most:
            raise Unavailable(
                f"{self._most} viewers watch already, which is the most (--max-page-viewers)"
            )
        if self._collection is None:
            self._collection = self._start()
        collection = self._collection
        viewer = Viewer(tenant, lambda: collection.snapshot(tenant))
        self._viewers.append(viewer)
        try:
            yield viewer
        finally:
            self._viewers.remove(viewer)
            if not self._viewers:
                self._collection = None
                collection.close()

    def close(self) -> None:
        """End all viewers at once, and take no more."""
        self._closed = True
        for viewer in self._viewers:
            viewer.leave()

    def _push(self, encode: Callable[[str], bytes]) -> None:
        """Give every viewer the frame as its tenant may see it, each encoded once."""
        made: dict[str, bytes] = {}
        for viewer in self._viewers:
            if viewer.tenant not in made:
                made[viewer.tenant] = encode(viewer.tenant)
            viewer.push(made[viewer.tenant])


class LiveCollection:
    """Listens to the engine from its making until `close`, and makes frames of what it hears."""

    def __init__(
        self,
        client: EngineHandle,
        figures: FigureMaker,
        model: str,
        push: Callable[[Callable[[str], bytes]], None],
    ) -> None:
        self._client = client
        self._figures = figures
        self._model = model
        self._push = push
        self._batch = SharedBatch()
        self._steps = CycleTimes(client.stats)
        self._since = time.monotonic()
        self._number = 0
        self._last: LiveFigures | None = None
        self._telling: asyncio.TimerHandle | None = None
        self._stops = (
            client.watch_batch(self._on_batch),
            client.subscribe(self._on_engine),
        )
        self._task = watched(
            self._tell_figures(),
            name="headway-live-figures",
            on_failure=lambda _: None,  # The batch is shown without them; it was logged.
        )

    def snapshot(self, tenant: str) -> bytes:
        """All that frames have told so far."""
        told = LiveSnapshot(
            since=self._since,
            number=self._number,
            at=time.monotonic(),
            model=self._model,
            rows=self._batch.snapshot(tenant),
            gone=list(self._batch.lately_gone),
            queue=self._batch.queue,
            queues=list(self._batch.queues.values()),
            figures=self._last,
        )
        return _event("snapshot", told)

    def close(self) -> None:
        """Listen no more."""
        for stop in self._stops:
            stop()
        self._task.cancel()
        if self._telling is not None:
            self._telling.cancel()

    def _on_engine(self, _: Sequence[TokenEvent], stats: EngineStats, _now: float) -> None:
        self._steps.see(stats)

    def _on_batch(self, news: BatchNews) -> None:
        self._batch.update(news)
        if not self._batch.several:
            self._tell(news.at, None)
        elif self._telling is None:
            # Each engine tells by itself: all that they tell meanwhile is one frame.
            self._telling = later(
                NEWS_SECONDS,
                self._tell_all,
                name="live batch",
                on_failure=lambda _: None,  # The next news are told.
            )

    def _tell_all(self) -> None:
        self._telling = None
        self._tell(time.monotonic(), None)

    def _tell(self, at: float, figures: LiveFigures | None) -> None:
        self._number += 1
        number, delta, steps = self._number, self._batch.delta(), self._steps.take()
        self._push(lambda tenant: _frame(number, at, delta, steps, figures, tenant))

    async def _tell_figures(self) -> None:
        began = time.monotonic()
        while True:
            await asyncio.sleep(FIGURES_SECONDS)
            now = time.monotonic()
            try:
                self._batch.keep([each.id for each in self._client.replicas], now)
                self._last = self._figures.make(now - began)
                self._tell(now, self._last)
            except Exception:  # the next ones may do
                log.exception(line("error", task="live figures"))
            began = now


def _frame(
    number: int,
    at: float,
    delta: BatchDelta,
    steps: StepSums | None,
    figures: LiveFigures | None,
    tenant: str,
) -> bytes:
    told = LiveFrame(
        number=number,
        at=at,
        rows=delta.rows_for(tenant),
        progress=delta.progress,
        gone=delta.gone,
        queue=delta.queue,
        queues=delta.queues,
        steps=steps,
        figures=figures,
    )
    return _event("frame", told)


def _event(name: str, told: msgspec.Struct) -> bytes:
    return b"event: %b\ndata: %b\n\n" % (name.encode(), msgspec.json.encode(told))


async def live(request: Request, send: Send) -> None:
    """Send news until the client leaves or the server ends."""
    news: LiveNews = request.app.state.live
    with news.watching(tenant_of(request.scope)) as viewer:
        watcher = watched(
            _until_left(request.receive, viewer),
            name="live viewer",
            on_failure=lambda _: viewer.leave(),
        )
        headers = [(b"content-type", EVENT_STREAM.encode()), *STREAM_HEADERS]
        try:
            await send({"type": "http.response.start", "status": 200, "headers": headers})
            async for event in viewer:
                await send({"type": "http.response.body", "body": event, "more_body": True})
            await send({"type": "http.response.body", "body": b"", "more_body": False})
        finally:
            watcher.cancel()


async def _until_left(receive: Receive, viewer: Viewer) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    viewer.leave()


LIVE_ENDPOINTS = (
    Endpoint(
        method="GET",
        path="/live",
        sender=live,
        summary="The batch as it happens, as server-sent events: what the page shows.",
        media_type="text/event-stream",
    ),
)
