"""File descriptors for the engine, which clients' connections must not be able to use up.

A server whose descriptors are all taken by idle connections could never start another engine. So a
few are kept open for nothing; a launch closes them just before it needs them, with nothing in
between that could take one, and they are opened again as soon as there are any.
"""

from __future__ import annotations

import errno
import os
import resource
from collections.abc import Iterator
from contextlib import contextmanager, suppress

RESERVED = 12
"""A launch needs six at a time (two sockets, two pipes' ends, /dev/null, and what starts the
program), and keeps one; so several launches in a row succeed where none can be opened again."""
MOST_DESCRIPTORS = 65536
"""Some programs take time in proportion to the limit, and no server of ours needs more."""
SHORTAGES = {errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EAGAIN, errno.ENOBUFS}
"""Errors that say that the machine lacks something at present."""


class DescriptorReserve:
    """Descriptors that are held open so that `lent` can free them."""

    def __init__(self, count: int = RESERVED) -> None:
        self._count = count
        self._held: list[int] = []
        self.fill()

    def __len__(self) -> int:
        return len(self._held)

    def fill(self) -> None:
        """Open what is missing, as far as that is possible at present."""
        with suppress(OSError):
            while len(self._held) < self._count:
                self._held.append(os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC))

    @contextmanager
    def lent(self) -> Iterator[None]:
        """The descriptors are free within the block, which must not wait for anything."""
        self.close()
        try:
            yield
        finally:
            self.fill()

    def close(self) -> None:
        """Let go of all of them."""
        while self._held:
            os.close(self._held.pop())


def raise_descriptor_limit() -> int:
    """Allow this process as many descriptors as it may allow itself; returns how many those are."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MOST_DESCRIPTORS if hard == resource.RLIM_INFINITY else min(hard, MOST_DESCRIPTORS)
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return soft
    with suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
        return wanted
    return soft
