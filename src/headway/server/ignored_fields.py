"""Fields that nobody knows and `--unknown-fields warn` lets pass: told in a header and in the log.

What a client chose is shortened and made harmless before it goes into either, and the log has a
line for each name at most once a minute, however many requests bring it.
"""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Callable, Sequence

from headway.logs import line

IGNORED_FIELDS = "headway.ignored_fields"
"""Key in the ASGI scope: the names, if there are any."""
HEADER = b"x-ignored-fields"
MOST_SHOWN = 8
"""Names in one header or log line."""
MOST_CHARACTERS = 40
"""Of a name."""
MOST_REMEMBERED = 256
"""Names whose time of telling is known; with more, all are forgotten."""
QUIET_SECONDS = 60.0

log = logging.getLogger("headway.server")

_ODD = re.compile(r"[^A-Za-z0-9_.\[\]-]")


def shown(names: Sequence[str]) -> str:
    """A list of names for a header, of bounded length: others are only counted."""
    some = [_ODD.sub("?", name[:MOST_CHARACTERS]) for name in names[:MOST_SHOWN]]
    more = len(names) - len(some)
    return ", ".join([*some, f"and {more} more"] if more else some)


class IgnoredFields:
    """Tells the log of ignored fields, each name at most once in `QUIET_SECONDS`."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """`clock` is in seconds."""
        self._clock = clock
        self._told: dict[str, float] = {}

    def tell(self, path: str, names: Sequence[str]) -> None:
        """Log those of these names, sent to `path`, that were not told lately."""
        now = self._clock()
        fresh = [
            name
            for name in (each[:MOST_CHARACTERS] for each in names[:MOST_SHOWN])
            if now - self._told.get(name, -QUIET_SECONDS) >= QUIET_SECONDS
        ]
        if not fresh:
            return
        if len(self._told) + len(fresh) > MOST_REMEMBERED:
            self._told.clear()
        self._told.update(dict.fromkeys(fresh, now))
        log.warning(line("fields_ignored", path=path, fields=shown(fresh)))
