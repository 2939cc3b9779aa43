"""Responses of which something can still be asked: those in the store, and those in the background.

A response in the background is generated like any other, but nobody waits for it: its client asks
for it again, or cancels it. It counts among the requests in flight till it has ended.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any

from headway.background import watched
from headway.errors import EngineError, HeadwayError
from headway.server.admission import ServerState
from headway.server.responses.formatter import ResponsesFormatter
from headway.server.responses.store import ResponseMissing, ResponseStore, StoredResponse

Answering = Callable[[Callable[[ResponsesFormatter], None]], Coroutine[Any, Any, None]]
"""Generates the answer, and gives its formatter away once nothing is wrong with the request."""


@dataclass(slots=True, eq=False)
class _Running:
    """A response in the background."""

    id: str
    begun: asyncio.Future[ResponsesFormatter]
    ended: asyncio.Event = field(default_factory=asyncio.Event)

    def snapshot(self) -> bytes:
        formatter = self.begun.result()
        return formatter.snapshot("in_progress" if formatter.usage.completion_tokens else "queued")


class KeptResponses:
    """For one event loop, but for `keep`, which any thread may call."""

    def __init__(self, store: ResponseStore) -> None:
        self.store = store
        self._running: dict[tuple[str, str], _Running] = {}

    def get(self, tenant: str, response_id: str) -> bytes:
        """A response as JSON, as far as it is; raises `ResponseMissing`."""
        running = self._running.get((tenant, response_id))
        return running.snapshot() if running else self.store.get(tenant, response_id).response

    def entry(self, tenant: str, response_id: str) -> StoredResponse:
        """A response that has ended; raises `ResponseMissing`."""
        return self.store.get(tenant, response_id)

    async def start(self, tenant: str, response_id: str, answer: Answering) -> bytes:
        """Answer in the background; returns the response once it waits for the engine.

        Raises whatever is wrong with the request.
        """
        begun: asyncio.Future[ResponsesFormatter] = asyncio.get_running_loop().create_future()
        running = _Running(response_id, begun)

        def failed(_: BaseException) -> None:
            if not begun.done():
                begun.set_exception(EngineError("the response could not be started"))

        watched(
            self._run((tenant, response_id), running, answer),
            name="background response",
            on_failure=failed,
        )
        return (await begun).snapshot("queued")

    async def cancel(self, state: ServerState, tenant: str, response_id: str) -> bytes | None:
        """Stop a response in the background, and return what it is then; None if it is in none.

        Raises `ResponseMissing`.
        """
        running = self._running.get((tenant, response_id))
        if running is None:
            return None
        state.cancel(response_id)
        await running.ended.wait()
        return self.store.get(tenant, response_id).response

    async def delete(self, state: ServerState, tenant: str, response_id: str) -> None:
        """Keep a response no longer; one in the background is stopped. Raises `ResponseMissing`."""
        running = self._running.get((tenant, response_id))
        if running is not None:
            state.cancel(response_id)
            await running.ended.wait()
        if not self.store.delete(tenant, response_id) and running is None:
            raise ResponseMissing(response_id)

    async def _run(self, key: tuple[str, str], running: _Running, answer: Answering) -> None:
        def begin(formatter: ResponsesFormatter) -> None:
            self._running[key] = running
            running.begun.set_result(formatter)

        try:
            await answer(begin)
            if not running.begun.result().ended:
                running.begun.result().cancel()
        except Exception as error:
            if not running.begun.done():
                running.begun.set_exception(error)
                return
            running.begun.result().fail(error)
            if not isinstance(error, HeadwayError):
                raise  # A bug, which is logged with its traceback.
        finally:
            self._running.pop(key, None)
            running.ended.set()
