"""What a step does, in seconds that the machine's limits would allow: the features of a fit.

Each feature is the time of one part of a step, alone, at the machine's best; a coefficient says how
many times as long that part takes in truth. So coefficients are never negative, about 1 before
anything was measured, and comparable between machines. Sequential parts (attention, head, each
product) add up; within a product, arithmetic and the reading of weights overlap, and only what
arithmetic does not hide of the reading counts.
"""

from __future__ import annotations

from typing import NamedTuple

from headway.steptime.shape import ModelSizes, PeakRates, StepShape

FIXED = 1e-3
"""Seconds of the constant feature."""
PER_SEQUENCE = 1e-5
"""Seconds of each sequence's: planning, sampling and telling, and what attention starts for it."""


class Features(NamedTuple):
    """Seconds; in the order of a model's coefficients."""

    fixed: float
    """A constant: launching, planning, waking."""
    sequences: float
    arithmetic: float
    """Products of all layers, for all new tokens."""
    reading: float
    """Reading of the weights, head included, as far as arithmetic at full rate does not hide it."""
    reading_alone: float
    """The same, were only half of the arithmetic's rate given: what few rows leave exposed."""
    decode_cache: float
    """Keys and values that decodes read."""
    prefill_attention: float
    """Products of queries with keys, and of weights with values, of prefills."""
    prefill_cache: float
    """Keys and values that prefills read."""
    head: float
    """Arithmetic of the head."""
    mixed: float
    """Arithmetic of decodes beside prefills, or of these where less: both lose by the other."""


PRIOR = Features(
    fixed=0.5,
    sequences=0.5,
    arithmetic=1.0,
    reading=1.0,
    reading_alone=0.0,
    decode_cache=1.0,
    prefill_attention=1.0,
    prefill_cache=1.0,
    head=1.0,
    mixed=0.0,
)
"""Coefficients before any data."""


def features(shape: StepShape, sizes: ModelSizes, machine: PeakRates) -> Features:
    """The features of a step."""
    rate, bandwidth = machine.arithmetic, machine.bandwidth
    token = sizes.token_ops / rate
    arithmetic = shape.tokens * token
    head = shape.rows * sizes.row_ops / rate
    weights = weights_read(shape.tokens, sizes) / bandwidth
    head_weights = sizes.row_bytes / bandwidth if shape.rows else 0.0
    full, near = sizes.full_layers, sizes.window_layers
    position, pair = sizes.position_bytes / bandwidth, sizes.pair_ops / rate
    prefills = shape.tokens - shape.decodes
    return Features(
        fixed=FIXED,
        sequences=shape.sequences * PER_SEQUENCE,
        arithmetic=arithmetic,
        reading=max(0.0, weights - arithmetic) + max(0.0, head_weights - head),
        reading_alone=max(0.0, weights - 2 * arithmetic) + max(0.0, head_weights - 2 * head),
        decode_cache=position * (full * shape.decode_context + near * shape.decode_context_window),
        prefill_attention=pair * (full * shape.prefill_pairs + near * shape.prefill_pairs_window),
        prefill_cache=position
        * (full * shape.prefill_context + near * shape.prefill_context_window),
        head=head,
        mixed=token * min(shape.decodes, prefills),
    )


def weights_read(tokens: int, sizes: ModelSizes) -> float:
    """Bytes of the layers' weights that a step of so many tokens reads.

    Of a mixture's experts it reads those that any of its tokens chose, taken to choose alike.
    """
    if sizes.expert_bytes == 0.0:
        return sizes.token_bytes
    spared = (1.0 - sizes.expert_share) ** tokens
    return sizes.token_bytes - sizes.expert_bytes * spared


def roofline_seconds(shape: StepShape, sizes: ModelSizes, machine: PeakRates) -> float:
    """The least time a step can take: all its arithmetic, or all its reading, whichever is more."""
    full, near = sizes.full_layers, sizes.window_layers
    pairs = full * (shape.decode_context + shape.prefill_pairs)
    pairs += near * (shape.decode_context_window + shape.prefill_pairs_window)
    positions = full * (shape.decode_context + shape.prefill_context)
    positions += near * (shape.decode_context_window + shape.prefill_context_window)
    work = shape.tokens * sizes.token_ops + shape.rows * sizes.row_ops + pairs * sizes.pair_ops
    read = weights_read(shape.tokens, sizes) + positions * sizes.position_bytes
    if shape.rows:
        read += sizes.row_bytes
    return max(work / machine.arithmetic, read / machine.bandwidth)
