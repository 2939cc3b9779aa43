"""A line on the terminal that moves while a workload runs: done, running, failed, tokens a second.

It is drawn twice a second whatever happens, so it costs nothing per token. Nothing is drawn where
standard error is no terminal.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from types import TracebackType

from tqdm import tqdm

from headway.bench.target import Answer

INTERVAL = 0.5
"""Seconds between two drawings."""


class Progress:
    """A `Watch` of `headway.bench.drive`; use `with`, on an event loop."""

    def __init__(self, total: int, *, tokens: Callable[[], int], show: bool = True) -> None:
        """`tokens` says how many tokens came so far, of all requests."""
        self._bar = tqdm(total=total, unit="req", disable=None if show else True, leave=False)
        self._tokens = tokens
        self._begun = self._done = self._failed = 0
        self._seen = tokens()
        self._at = time.perf_counter()
        self._timer: asyncio.TimerHandle | None = None

    def sent(self) -> None:
        self._begun += 1

    def ended(self, answer: Answer) -> None:
        self._done += 1
        self._failed += answer.outcome != "ok"

    def text(self) -> str:
        """What is said beside the bar; tokens a second are those since it was said last."""
        now, seen = time.perf_counter(), self._tokens()
        rate = (seen - self._seen) / max(now - self._at, 1e-9)
        self._at, self._seen = now, seen
        failed = f", {self._failed} failed" if self._failed else ""
        return f"{self._begun - self._done} running{failed}, {rate:,.0f} tok/s"

    def __enter__(self) -> Progress:
        if not self._bar.disable:
            self._tick()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._bar.close()

    def _tick(self) -> None:
        self._bar.n = self._done
        self._bar.set_postfix_str(self.text())
        self._timer = asyncio.get_running_loop().call_later(INTERVAL, self._tick)
