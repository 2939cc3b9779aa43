"""Answers in memory: of bounded bytes, the one used longest ago goes first, none grows old."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from time import monotonic
from typing import NamedTuple

ENTRY_BYTES = 400
"""What an entry takes beside its value: key, dates and its place in the table."""
LARGEST_SHARE = 8
"""An answer takes at most this part of the bytes, so that one does not drive out all others."""


class _Entry(NamedTuple):
    value: bytes
    since: float


class AnswerStore:
    """Bytes by key. Not for several threads."""

    def __init__(
        self, most_bytes: int, *, max_age: float, clock: Callable[[], float] = monotonic
    ) -> None:
        """`max_age` and `clock` are in seconds."""
        self._most = most_bytes
        self._max_age = max_age
        self._clock = clock
        self._entries: OrderedDict[bytes, _Entry] = OrderedDict()
        self.bytes = 0
        """That the entries take, at most `most_bytes`."""
        self.evictions = 0
        """Entries that went for want of room."""

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, key: bytes) -> bytes | None:
        """The value of a key, if it is there and not too old."""
        entry = self._entries.get(key)
        if entry is None:
            return None
        if self._clock() - entry.since >= self._max_age:
            self._remove(key)
            return None
        self._entries.move_to_end(key)
        return entry.value

    def put(self, key: bytes, value: bytes) -> bool:
        """Keep a value; returns whether that was done.

        It is not where it is too large, nor where a longer one is there: of the same answer, that
        is more of it.
        """
        size = ENTRY_BYTES + len(value)
        if size * LARGEST_SHARE > self._most:
            return False
        found = self.get(key)
        if found is not None:
            if len(found) >= len(value):
                return False
            self._remove(key)
        while self.bytes + size > self._most:
            self._remove(next(iter(self._entries)))
            self.evictions += 1
        self._entries[key] = _Entry(value, self._clock())
        self.bytes += size
        return True

    def clear(self) -> None:
        """Forget all."""
        self._entries.clear()
        self.bytes = 0

    def _remove(self, key: bytes) -> None:
        self.bytes -= ENTRY_BYTES + len(self._entries.pop(key).value)
