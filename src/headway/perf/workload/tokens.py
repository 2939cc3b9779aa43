"""A job's prompt as token ids, made from its segments.

For real models ids that any vocabulary has; for simulations ids that tell every segment apart and
cost next to nothing. Equal segments are equal tokens in both, everywhere and always.
"""

from __future__ import annotations

import struct
from itertools import chain
from random import Random

from headway.perf.workload.workload import LONGEST, Segment, WorkloadRequest

_SEGMENTS = 1 << 26
"""Segment seeds that one workload may use from its first one on."""
_SEEDS = 1 << 42
"""Segment seeds told apart: times LONGEST, a token id stays below 2**62."""


def first_seed(seed: int) -> int:
    """Where the segment seeds of a workload with this seed begin: others begin elsewhere."""
    return seed % (_SEEDS // _SEGMENTS) * _SEGMENTS


def vocabulary_tokens(job: WorkloadRequest, low: int = 100, high: int = 30_000) -> list[int]:
    """Pseudo-random ids from `low` up to but not including `high`.

    The low ids are left out because tokenizers keep their special tokens there.
    """
    span = high - low
    return [low + word % span for segment in job.segments for word in _words(segment)]


def distinct_tokens(job: WorkloadRequest) -> tuple[int, ...]:
    """Ids from 0 up to 2**62 that two segments share only if their seeds are equal.

    Seeds count up to 2**42, beyond which they wrap.
    """
    return tuple(
        chain.from_iterable(
            range(start, start + length)
            for seed, length in job.segments
            for start in (seed % _SEEDS * LONGEST,)
        )
    )


def _words(segment: Segment) -> tuple[int, ...]:
    """As many pseudo-random 32-bit numbers as the segment has tokens."""
    drawn = Random(segment.seed).randbytes(4 * segment.length)  # noqa: S311
    return struct.unpack(f"<{segment.length}I", drawn)
