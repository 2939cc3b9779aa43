"""The prepared model of an engine: made ready before it starts, checked while it serves.

A flipped bit on the disk shows in no size. All files are therefore read once after a start, by a
process of the lowest priority that takes little of a processor (a thread of that priority would
make the event loop wait whenever it holds the interpreter's lock). A damaged model is prepared
anew, and the engine is started again with the sound one; its requests go on. Where that fails, the
damaged one is served and the log says so, since most damage changes single weights, and a service
that is gone serves nobody.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import sys
import threading
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TypeVar, cast

from headway.checkpoint import Prepared, hash_files
from headway.client import EngineHandle
from headway.client.response_cache import CachingEngine
from headway.errors import HeadwayError

T = TypeVar("T")

CHECK_AFTER = 5.0
"""Seconds from the start of an engine to the check: short runs do without."""
STOP_SECONDS = 0.5
"""That work gets to clean up when it is stopped."""
DUTY = 0.1
"""Share of a processor that the check may take, where one idles."""

logger = logging.getLogger(__name__)


async def stoppable(work: Callable[[threading.Event], T]) -> T:
    """Run `work` in a thread; when this is cancelled, set the event, and wait a little for its end.

    What does not end by then (most of a tokenizer is read in one call) is left to itself: the
    thread keeps no program alive.
    """
    stop = threading.Event()
    loop = asyncio.get_running_loop()
    done: asyncio.Future[T] = loop.create_future()

    def finish(result: T | None, error: BaseException | None) -> None:
        if done.cancelled():
            return
        if error is not None:
            done.set_exception(error)
        else:
            done.set_result(cast(T, result))

    def run() -> None:
        result, failure = None, None
        try:
            result = work(stop)
        except BaseException as error:
            failure = error
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
            loop.call_soon_threadsafe(finish, result, failure)

    threading.Thread(target=run, name="headway-model", daemon=True).start()
    try:
        return await asyncio.shield(done)
    except asyncio.CancelledError:
        stop.set()
        await asyncio.wait((done,), timeout=STOP_SECONDS)
        if done.done() and not done.cancelled():
            done.exception()  # of no interest: whoever asked has left
        else:
            done.cancel()
        raise


async def check_prepared(
    prepared: Prepared,
    mend: Callable[[threading.Event], object],
    restart: Callable[[], Awaitable[None]],
    *,
    after: float | None = None,
) -> bool:
    """Read the files of a model that is being served, and replace it where they are damaged.

    `mend` prepares the model anew, `restart` replaces the engines. Returns whether the model is
    sound in the end, as far as can be known. Raises nothing.
    """
    try:
        await asyncio.sleep(CHECK_AFTER if after is None else after)
        damaged = await find_damage(prepared)
        if not damaged:
            return True
        logger.error(
            "prepared model damaged folder=%s files=%s: answers may be wrong; preparing it anew",
            prepared.folder,
            ",".join(damaged),
        )
        await stoppable(mend)
        logger.warning("prepared model replaced folder=%s: restarting the engine", prepared.folder)
        await restart()
        return True
    except HeadwayError as error:
        logger.error("prepared model cannot be replaced and is served damaged: %s", error)
    except Exception:
        logger.exception("checking the prepared model failed")
    return False


async def check_served(
    prepared: Prepared,
    mend: Callable[[threading.Event], object],
    engine: EngineHandle,
    cache: CachingEngine | None,
) -> None:
    """The same of the model that an engine computes: answers of a damaged one are not kept."""
    served = engine if cache is None else cache
    if await check_prepared(prepared, mend, served.restart) and cache is not None:
        cache.trust()


async def find_damage(prepared: Prepared, *, duty: float = DUTY) -> list[str]:
    """The files that are not what was written; empty where nothing is known of them."""
    if prepared.manifest is None:
        return []
    records = prepared.manifest.files
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-I",
        "-S",
        hash_files.__file__,
        str(os.getpid()),
        str(duty),
        *(str(prepared.folder / name) for name in records),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        told, _ = await process.communicate()
    finally:
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()
    found = {}
    for line in told.decode().splitlines():
        digest, _, path = line.partition(" ")
        found[Path(path).name] = digest
    return [name for name in found if found[name] != records[name].sha256]
