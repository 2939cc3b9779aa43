"""Background tasks and callbacks, none of which ends unnoticed.

asyncio keeps a task's exception until somebody asks for its result, and only logs that of a
callback: whatever depended on either then waits for ever. So each one that nobody awaits is started
here, with a function that says what its failure means: the engine is replaced, a connection is
closed, or the program ends.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

T = TypeVar("T")
OnFailure = Callable[[BaseException], object]
"""Called on the event loop with what went wrong, after that was logged with its traceback."""

logger = logging.getLogger(__name__)


class BackgroundTaskEnded(Exception):
    """A background task was stopped by something else than its owner."""


def watched(work: Coroutine[Any, Any, T], *, name: str, on_failure: OnFailure) -> asyncio.Task[T]:
    """A task for `work`. An exception that ends it is logged and given to `on_failure`.

    To cancel the task is no failure. A cancelled future that it awaited is one.
    """
    task = asyncio.get_running_loop().create_task(work, name=name)

    def ended(task: asyncio.Task[T]) -> None:
        if not task.cancelled():
            error = task.exception()
        elif task.cancelling():
            return
        else:
            error = BackgroundTaskEnded(f"{name}: what it waited for was cancelled")
        if error is not None:
            _failed(name, error, on_failure)

    task.add_done_callback(ended)
    return task


def soon(callback: Callable[[], object], *, name: str, on_failure: OnFailure) -> None:
    """Call `callback` in the event loop's next turn; its exception is told as a task's is."""
    call = _guarded(callback, name, on_failure)
    asyncio.get_running_loop().call_soon(call)


def later(
    seconds: float, callback: Callable[[], object], *, name: str, on_failure: OnFailure
) -> asyncio.TimerHandle:
    """Call `callback` after so many seconds; its exception is told as a task's is."""
    call = _guarded(callback, name, on_failure)
    return asyncio.get_running_loop().call_later(seconds, call)


def _guarded(
    callback: Callable[[], object], name: str, on_failure: OnFailure
) -> Callable[[], None]:
    def call() -> None:
        try:
            callback()
        except Exception as error:
            _failed(name, error, on_failure)

    return call


def _failed(name: str, error: BaseException, on_failure: OnFailure) -> None:
    logger.error("background work failed: %s", name, exc_info=error)
    try:
        on_failure(error)
    except Exception:
        logger.exception("background work failed, and so did the reaction to it: %s", name)
