"""Repeatable chance: one stream of numbers per seed and purpose.

Every purpose has a stream of its own, so that asking for other arrivals leaves the lengths as they
were, and two systems are compared on the same requests.
"""

from __future__ import annotations

from random import Random


def chance(seed: int, purpose: str) -> Random:
    """The stream for this purpose; the same on every machine and in every process."""
    return Random(f"{seed} {purpose}")  # noqa: S311
