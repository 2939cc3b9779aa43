"""The memory of an engine's KV cache, held by whoever starts the engine so that it outlives it.

It is a file of memory (Linux's memfd), which has no name anywhere and takes memory only as an
engine writes to it. The engine process inherits its descriptor and lays it out; the next one finds
there what is worth keeping. When both sides are gone, so is the memory. What is in the file is the
engine's business, and whether it may be trusted depends on how the engine ended.
"""

from __future__ import annotations

import logging
import os
import signal

logger = logging.getLogger(__name__)

_HARMLESS = {-signal.SIGKILL, -signal.SIGTERM, -signal.SIGINT, -signal.SIGHUP}
"""Ends by a signal that came from outside, the out-of-memory killer's included."""


def keeps_cache(exit_code: int | None, *, useful: bool) -> bool:
    """Whether the cache of an engine process that ended may be given to the next one.

    One that crashed may have written anywhere before, and one that cannot even be killed may still
    be writing: `exit_code` is negative for a signal, and None for the latter. An engine that died
    before any token came from it may have died of what it had adopted (`useful` is false).
    """
    return useful and exit_code is not None and (exit_code >= 0 or exit_code in _HARMLESS)


class CacheMemoryFile:
    """The file, empty at first. `descriptor` is None where this system has no such files."""

    def __init__(self) -> None:
        self.descriptor = _memory_file()

    @property
    def path(self) -> str:
        """Where other engines that this process starts can read the file; "" if there is none."""
        return "" if self.descriptor is None else f"/proc/{os.getpid()}/fd/{self.descriptor}"

    def discard(self) -> None:
        """Give all its memory back: the next engine begins with an empty cache.

        No engine may be using it, but for one that is being killed.
        """
        if self.descriptor is not None:
            os.ftruncate(self.descriptor, 0)

    def close(self) -> None:
        """Let go of the file. May be called again."""
        if self.descriptor is not None:
            os.close(self.descriptor)
            self.descriptor = None


def _memory_file() -> int | None:
    try:
        return os.memfd_create("headway-kv-cache", os.MFD_CLOEXEC)
    except (AttributeError, OSError) as error:
        logger.info("the KV cache ends with its engine, as this system has no memfd: %s", error)
        return None
