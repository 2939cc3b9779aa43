"""Log lines: one an event, as `event=... key=value ...`, so that grep and machines can read them.

Values that clients made up are quoted, so none can forge a line or a field.
"""

from __future__ import annotations

import json
import logging
import re

log = logging.getLogger("headway.server")

_BARE = re.compile(r"[A-Za-z0-9_.:/,+-]+")


def line(event: str, **fields: object) -> str:
    """The event with its fields; those that are None are left out, floats get three digits."""
    parts = [f"event={event}"]
    parts += [f"{name}={_value(value)}" for name, value in fields.items() if value is not None]
    return " ".join(parts)


def _value(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.3f}"
    text = str(value)
    return text if _BARE.fullmatch(text) else json.dumps(text)
