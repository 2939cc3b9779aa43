"""Grammars that wait to be checked: tenants take turns, and an equal grammar waits once.

Holds no process and waits for nothing itself, so what it decides can be seen at once.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict, deque
from dataclasses import dataclass

from headway.errors import Overloaded
from headway.types import Grammar

MAX_WAITING = 64
"""Grammars in line, all tenants' together."""
RETRY_AFTER = 1.0


@dataclass(eq=False, slots=True)
class GrammarJob:
    """A grammar to be checked, whoever asks for it; `error` is set to why it cannot be used."""

    grammar: Grammar
    tenant: str
    error: asyncio.Future[str | None]
    askers: int = 0
    """Those that still want to know."""


class GrammarQueue:
    """At most `MAX_WAITING` jobs. Of tenants with some, each has the next one checked in turn.

    Where it is full, a newcomer of a tenant that has fewer than another takes the place of that
    one's last.
    """

    def __init__(self) -> None:
        self._lines: OrderedDict[str, deque[GrammarJob]] = OrderedDict()
        """By tenant, the one whose turn it is first; none is empty."""

    def __len__(self) -> int:
        return sum(map(len, self._lines.values()))

    def add(self, job: GrammarJob) -> None:
        """Raises `Overloaded` where there is no place for it."""
        if len(self) >= MAX_WAITING:
            longest = max(self._lines.values(), key=len)
            if len(longest) <= len(self._lines.get(job.tenant, ())) + 1:
                raise _full()
            displaced = longest[-1]
            self.discard(displaced)
            if not displaced.error.done():
                displaced.error.set_exception(_full())
        self._lines.setdefault(job.tenant, deque()).append(job)

    def next(self) -> GrammarJob | None:
        """Whose turn it is; it waits no longer."""
        if not self._lines:
            return None
        tenant, line = next(iter(self._lines.items()))
        job = line.popleft()
        if line:
            self._lines.move_to_end(tenant)
        else:
            del self._lines[tenant]
        return job

    def discard(self, job: GrammarJob) -> None:
        """Nobody wants it any more; harmless where it does not wait."""
        line = self._lines.get(job.tenant)
        if line is not None and job in line:
            line.remove(job)
            if not line:
                del self._lines[job.tenant]


def _full() -> Overloaded:
    return Overloaded(
        f"{MAX_WAITING} grammars wait to be compiled; try again later", retry_after=RETRY_AFTER
    )
