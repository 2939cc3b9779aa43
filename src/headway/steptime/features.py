"""The features of the step-time model: what each part of a step takes at the machine's peak rates.

Each feature is the time of one part, alone, in seconds; a coefficient says how many times as long
that part takes in truth. So coefficients are never negative, about 1 before anything was measured,
and comparable between machines. Sequential parts (attention, lm_head, each matrix product) add up;
within a product computing overlaps with reading weights, so of the memory time only what compute
time does not hide counts. The bound itself is the roofline of Williams, Waterman and Patterson.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, fields
from operator import attrgetter

from headway.steptime.shape import ModelSizes, PeakRates, StepShape, shape_of
from headway.types import Slice

FIXED = 1e-3
"""Seconds of the constant feature."""
PER_SEQUENCE = 1e-5
"""Seconds of each sequence's: planning, sampling, its event, and what attention starts for it."""


@dataclass(frozen=True, slots=True)
class Features:
    """Seconds of each part of a step, or, in a model, the factors that they are multiplied by."""

    fixed: float
    """A constant: launching, planning, waking."""
    sequences: float
    compute: float
    """Compute time of the matrix products of all layers, for all new tokens."""
    memory: float
    """Memory time of the weights, lm_head included, as far as compute time does not hide it."""
    memory_half_rate: float
    """The same where compute time hides twice itself: what small batches leave exposed."""
    decode_cache: float
    """Keys and values that decodes read."""
    prefill_attention: float
    """Products of queries with keys, and of weights with values, of prefills."""
    prefill_cache: float
    """Keys and values that prefills read."""
    lm_head: float
    """Compute time of the lm_head."""
    mixed: float
    """Compute time of decodes beside prefills, or of these where less: both lose by the other."""

    def __iter__(self) -> Iterator[float]:
        return iter(_VALUES(self))


NAMES = tuple(field.name for field in fields(Features))
_VALUES = attrgetter(*NAMES)


PRIOR = Features(
    fixed=0.5,
    sequences=0.5,
    compute=1.0,
    memory=1.0,
    memory_half_rate=0.0,
    decode_cache=1.0,
    prefill_attention=1.0,
    prefill_cache=1.0,
    lm_head=1.0,
    mixed=0.0,
)
"""Coefficients before any data."""


def features(shape: StepShape, sizes: ModelSizes, machine: PeakRates) -> Features:
    """The features of a step."""
    rate, bandwidth = machine.flops_per_second, machine.bandwidth
    token = sizes.flops_per_token / rate
    compute = shape.tokens * token
    lm_head = shape.rows * sizes.lm_head_flops / rate
    weights = weights_read(shape.tokens, sizes) / bandwidth
    head_weights = sizes.lm_head_bytes / bandwidth if shape.rows else 0.0
    full, near = sizes.full_layers, sizes.window_layers
    position, pair = sizes.kv_bytes_per_position / bandwidth, sizes.attention_flops_per_pair / rate
    prefills = shape.tokens - shape.decodes
    return Features(
        fixed=FIXED,
        sequences=shape.sequences * PER_SEQUENCE,
        compute=compute,
        memory=max(0.0, weights - compute) + max(0.0, head_weights - lm_head),
        memory_half_rate=max(0.0, weights - 2 * compute) + max(0.0, head_weights - 2 * lm_head),
        decode_cache=position * (full * shape.decode_context + near * shape.decode_context_window),
        prefill_attention=pair * (full * shape.prefill_pairs + near * shape.prefill_pairs_window),
        prefill_cache=position
        * (full * shape.prefill_context + near * shape.prefill_context_window),
        lm_head=lm_head,
        mixed=token * min(shape.decodes, prefills),
    )


def weights_read(tokens: int, sizes: ModelSizes) -> float:
    """Bytes of the layers' weights that a step of so many tokens reads.

    Of a mixture's experts it reads those that any of its tokens chose, taken to choose alike.
    """
    if sizes.expert_bytes == 0.0:
        return sizes.layer_bytes
    spared = (1.0 - sizes.expert_share) ** tokens
    return sizes.layer_bytes - sizes.expert_bytes * spared


def roofline_seconds(shape: StepShape, sizes: ModelSizes, machine: PeakRates) -> float:
    """The least time a step can take: its compute or its memory time, whichever is more."""
    full, near = sizes.full_layers, sizes.window_layers
    pairs = full * (shape.decode_context + shape.prefill_pairs)
    pairs += near * (shape.decode_context_window + shape.prefill_pairs_window)
    positions = full * (shape.decode_context + shape.prefill_context)
    positions += near * (shape.decode_context_window + shape.prefill_context_window)
    flops = shape.tokens * sizes.flops_per_token + shape.rows * sizes.lm_head_flops
    flops += pairs * sizes.attention_flops_per_pair
    read = weights_read(shape.tokens, sizes) + positions * sizes.kv_bytes_per_position
    if shape.rows:
        read += sizes.lm_head_bytes
    return max(flops / machine.flops_per_second, read / machine.bandwidth)


def roofline_time(sizes: ModelSizes, machine: PeakRates) -> Callable[[Iterable[Slice]], float]:
    """`roofline_seconds` of a step's slices."""
    return lambda slices: roofline_seconds(shape_of(slices, sizes.window), sizes, machine)
