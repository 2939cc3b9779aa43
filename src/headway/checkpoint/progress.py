"""How far long work is, for people: a bar on a terminal, else log lines; and ending it early.

Downloading and preparing run in a thread, which nobody can kill. Whoever started them sets an event
instead, and the work, which looks at it wherever it tells its progress, ends with `Interrupted`.
"""

from __future__ import annotations

import contextlib
import logging
import sys
import threading
import time
from collections.abc import Callable, Iterator

from tqdm import tqdm

from headway.errors import HeadwayError
from headway.logs import line

LOG_SECONDS = 10.0
"""Between two log lines of work that goes on."""
_MIB = 2**20

logger = logging.getLogger(__name__)


class Interrupted(HeadwayError):
    """Work that was told to end before it was done; it has left nothing behind."""


def check_stop(stop: threading.Event | None) -> None:
    """Raise `Interrupted` if the event is set."""
    if stop is not None and stop.is_set():
        raise Interrupted("interrupted")


@contextlib.contextmanager
def progress_of(
    doing: str, name: str, total: int, *, bar: bool, stop: threading.Event | None = None
) -> Iterator[Callable[[int], object]]:
    """Show work on `total` bytes (0: nobody knows); `doing` is such as "downloading".

    Yields a function that is told the bytes done since it was last told, and raises `Interrupted`
    once `stop` is set. `bar` is shown where standard error is a terminal; elsewhere there are log
    lines at the start, every ten seconds and at the end.
    """
    if bar and sys.stderr.isatty():
        title = f"{doing.capitalize()} {name}"
        scale = {"unit": "B", "unit_scale": True, "unit_divisor": 1024}
        with tqdm(desc=title, total=total or None, **scale) as shown:
            yield _advance(shown.update, stop)
        return
    log = _ProgressLog(doing, name, total)
    with log.ticking():
        yield _advance(log.advance, stop)


def _advance(
    tell: Callable[[int], object], stop: threading.Event | None
) -> Callable[[int], object]:
    def advance(done: int) -> None:
        check_stop(stop)
        tell(done)

    return advance


class _ProgressLog:
    """Log lines, from a thread of its own: they come also where the work hangs."""

    def __init__(self, doing: str, name: str, total: int) -> None:
        self._doing = doing
        self._name = name
        self._total = total
        self._done = 0
        self._began = time.monotonic()
        self._ended = threading.Event()

    def advance(self, done: int) -> None:
        self._done += done

    @contextlib.contextmanager
    def ticking(self) -> Iterator[None]:
        self._write("begins")
        thread = threading.Thread(target=self._tick, name="progress-log", daemon=True)
        thread.start()
        outcome = "failed"
        try:
            yield
            outcome = "done"
        finally:
            self._ended.set()
            thread.join()
            self._write(outcome)

    def _tick(self) -> None:
        while not self._ended.wait(LOG_SECONDS):
            self._write("goes_on")

    def _write(self, what: str) -> None:
        logger.info(
            line(
                self._doing,
                state=what,
                model=self._name,
                mib=self._done // _MIB,
                of_mib=self._total // _MIB if self._total else None,
                seconds=time.monotonic() - self._began,
            )
        )
