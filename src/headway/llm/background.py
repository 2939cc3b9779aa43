"""An event loop in a thread of its own, for callers that have none."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine
from concurrent.futures import CancelledError, Future
from contextlib import suppress
from typing import Any, TypeVar

T = TypeVar("T")

PATIENCE = 10.0
"""Seconds that interrupted work gets to clean up."""


class LoopThread:
    """Runs coroutines for synchronous callers; a daemon, so it never keeps a program alive."""

    def __init__(self) -> None:
        self._runner = asyncio.Runner()
        self._loop: asyncio.AbstractEventLoop | None = None
        started = threading.Event()
        self._thread = threading.Thread(
            target=self._main, args=(started,), name="headway-loop", daemon=True
        )
        self._thread.start()
        started.wait()

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """The coroutine's result. Ctrl-C cancels it, waits for its clean-up, and is raised."""
        assert self._loop is not None, "the thread has started"
        future: Future[T] = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return future.result()
        except KeyboardInterrupt:
            self._cancel(future)
            raise

    def close(self) -> None:
        """Stop the loop and end the thread; what still runs is cancelled."""
        if self._loop is not None and self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join(PATIENCE)

    def _main(self, started: threading.Event) -> None:
        with self._runner as runner:
            self._loop = runner.get_loop()
            self._loop.call_soon(started.set)
            self._loop.run_forever()

    def _cancel(self, future: Future[Any]) -> None:
        future.cancel()
        # The future counts as cancelled at once; its task ends a little later.
        with suppress(CancelledError, TimeoutError):
            assert self._loop is not None
            asyncio.run_coroutine_threadsafe(_settle(), self._loop).result(PATIENCE)


async def _settle() -> None:
    """Wait until the tasks that were cancelled have ended."""
    ending = [task for task in asyncio.all_tasks() if task.cancelling()]
    if ending:
        await asyncio.wait(ending, timeout=PATIENCE)
