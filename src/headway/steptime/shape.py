"""What a step's time depends on: the step's shape, the model's sizes, the machine's peak rates.

A shape is taken from the plan alone, so that a step's time can be predicted before it is computed.
FLOPs are floating-point operations; a multiplication and an addition are two.

Shape, sizes and rates give the `Features`: the time of each part of the step, alone, in seconds; a
coefficient of the step-time model says how many times as long that part takes in truth. So
coefficients are never negative, about 1 before anything was measured, and comparable between
machines. Sequential parts (attention, lm_head, each matrix product) add up; within a product
computing overlaps with reading weights, so of the memory time only what compute time does not hide
counts. The bound itself is the roofline of Williams, Waterman and Patterson.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass, fields
from operator import attrgetter
from typing import NamedTuple

from headway.types import Slice


class StepShape(NamedTuple):
    """Counts over the slices of a step; a slice of one token is a decode, others are prefills.

    The context of a token is the number of positions that it attends to, itself included. Fields
    with `window` count no more than the model's sliding window a token, for its sliding layers;
    without one they are 0. A named tuple, since planning a step makes dozens to choose from.
    """

    tokens: int = 0
    """New tokens."""
    sequences: int = 0
    """Slices."""
    rows: int = 0
    """Tokens whose logits are computed."""
    decodes: int = 0
    decode_context: int = 0
    """Sum of contexts over decodes: positions whose keys and values are read."""
    prefill_pairs: int = 0
    """Sum of contexts over all tokens of prefills: products of a query with a key."""
    prefill_context: int = 0
    """Sum over prefill slices of the context of their last token: positions that are read."""
    decode_context_window: int = 0
    prefill_pairs_window: int = 0
    prefill_context_window: int = 0

    def with_slice(self, start: int, count: int, rows: int, window: int | None = None) -> StepShape:
        """The shape with one slice more: `count` tokens from position `start`."""
        context = start + count
        if count == 1:
            return self._replace(
                tokens=self.tokens + 1,
                sequences=self.sequences + 1,
                rows=self.rows + rows,
                decodes=self.decodes + 1,
                decode_context=self.decode_context + context,
                decode_context_window=self.decode_context_window + min(context, window or 0),
            )
        pairs_near = context_near = 0
        if window is not None:
            pairs_near = pairs_within(start, count, window)
            context_near = min(context, window + count - 1)
        return StepShape(
            self.tokens + count,
            self.sequences + 1,
            self.rows + rows,
            self.decodes,
            self.decode_context,
            self.prefill_pairs + count * start + count * (count + 1) // 2,
            self.prefill_context + context,
            self.decode_context_window,
            self.prefill_pairs_window + pairs_near,
            self.prefill_context_window + context_near,
        )

    def with_drafts(self, start: int, drafts: int, window: int | None = None) -> StepShape:
        """The shape where the decode from position `start` computes so many drafts too."""
        if not drafts:
            return self
        without = self._replace(
            tokens=self.tokens - 1,
            sequences=self.sequences - 1,
            rows=self.rows - 1,
            decodes=self.decodes - 1,
            decode_context=self.decode_context - start - 1,
            decode_context_window=self.decode_context_window - min(start + 1, window or 0),
        )
        return without.with_slice(start, 1 + drafts, 1 + drafts, window)


def shape_of(slices: Collection[Slice], window: int | None = None) -> StepShape:
    """The shape of a step; `window` is the sliding window of the model, None if it has none."""
    starts = [part.start for part in slices if len(part.tokens) == 1 == part.outputs]
    others: list[Slice] = []
    if len(starts) < len(slices):
        others = [part for part in slices if not len(part.tokens) == 1 == part.outputs]
    return step_shape(starts, others, window)


def step_shape(
    decodes: Collection[int], others: Iterable[Slice], window: int | None = None
) -> StepShape:
    """The shape of a step of decodes, as for `decodes_after`, and slices of any kind."""
    shape = decodes_after(decodes, window)
    for part in others:
        shape = shape.with_slice(part.start, len(part.tokens), part.outputs, window)
    return shape


def decodes_after(computed: Collection[int], window: int | None = None) -> StepShape:
    """The shape of a step in which sequences that have so many tokens computed decode one each."""
    count = len(computed)
    near = 0
    if window is not None:
        # `min` would take five times as long.
        near = sum([each + 1 if each < window else window for each in computed])
    return StepShape(
        tokens=count,
        sequences=count,
        rows=count,
        decodes=count,
        decode_context=sum(computed) + count,
        decode_context_window=near,
    )


def pairs_within(start: int, count: int, window: int) -> int:
    """Contexts of tokens start .. start + count - 1, none counted beyond the window, summed."""
    growing = max(0, min(count, window - start))
    return growing * start + growing * (growing + 1) // 2 + (count - growing) * window


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelSizes:
    """One model in one weight format."""

    name: str
    flops_per_token: float
    """Of the layers' matrices, which every new token passes; active experts only."""
    layer_bytes: float
    """Of these matrices, all experts included: a step reads them once."""
    lm_head_flops: float
    """For one token whose logits are computed."""
    lm_head_bytes: float
    """A step reads them once if it computes any logits."""
    attention_flops_per_pair: float
    """Of one query with one key, over all heads of one layer."""
    kv_bytes_per_position: float
    """Keys and values of one position in one layer."""
    full_layers: int
    """Layers that attend to everything."""
    window_layers: int = 0
    """Layers that attend to a sliding window."""
    window: int | None = None
    expert_bytes: float = 0.0
    """The experts' part of `layer_bytes`; a small step reads only some of them."""
    expert_share: float = 1.0
    """Share of the experts that one token uses."""

    @property
    def kv_bytes_per_token(self) -> float:
        """KV cache of one token over all layers."""
        return self.kv_bytes_per_position * (self.full_layers + self.window_layers)


@dataclass(frozen=True, slots=True, kw_only=True)
class PeakRates:
    """What a machine can do at most, with one number format and number of threads."""

    device: str
    """For people: the processor's or accelerator's name."""
    flops_per_second: float
    """Peak rate of matrix products."""
    bandwidth: float
    """Bytes a second from memory."""
    dtype: str = ""
    threads: int = 0


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
    return Features(*feature_row(shape, sizes, machine))


def feature_row(shape: StepShape, sizes: ModelSizes, machine: PeakRates) -> tuple[float, ...]:
    """The same as a tuple, in the order of `NAMES`: for learning, which needs no names."""
    rate, bandwidth = machine.flops_per_second, machine.bandwidth
    token = sizes.flops_per_token / rate
    compute = shape.tokens * token
    lm_head = shape.rows * sizes.lm_head_flops / rate
    weights = weights_read(shape.tokens, sizes) / bandwidth
    head_weights = sizes.lm_head_bytes / bandwidth if shape.rows else 0.0
    full, near = sizes.full_layers, sizes.window_layers
    position, pair = sizes.kv_bytes_per_position / bandwidth, sizes.attention_flops_per_pair / rate
    prefills = shape.tokens - shape.decodes
    return (
        FIXED,
        shape.sequences * PER_SEQUENCE,
        compute,
        max(0.0, weights - compute) + max(0.0, head_weights - lm_head),
        max(0.0, weights - 2 * compute) + max(0.0, head_weights - 2 * lm_head),
        position * (full * shape.decode_context + near * shape.decode_context_window),
        pair * (full * shape.prefill_pairs + near * shape.prefill_pairs_window),
        position * (full * shape.prefill_context + near * shape.prefill_context_window),
        lm_head,
        token * min(shape.decodes, prefills),
    )


def weights_read(tokens: int, sizes: ModelSizes) -> float:
    """Bytes of the layers' weights that a step of so many tokens reads.

    Of a mixture's experts it reads those that any of its tokens chose, taken to choose alike.
    """
    if sizes.expert_bytes == 0.0:
        return sizes.layer_bytes
    spared = (1.0 - sizes.expert_share) ** tokens
    return sizes.layer_bytes - sizes.expert_bytes * spared


def work_of(shape: StepShape, sizes: ModelSizes) -> tuple[float, float]:
    """FLOPs that a step computes, and bytes that it reads from memory at least."""
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
    return flops, read


def roofline_seconds(shape: StepShape, sizes: ModelSizes, machine: PeakRates) -> float:
    """The least time a step can take: its compute or its memory time, whichever is more."""
    flops, read = work_of(shape, sizes)
    return max(flops / machine.flops_per_second, read / machine.bandwidth)


StepTime = Callable[[Collection[Slice]], float]
"""Seconds that a step of these slices takes; it reads their starts, outputs and token counts."""


def roofline_time(sizes: ModelSizes, machine: PeakRates) -> StepTime:
    """`roofline_seconds` of a step's slices."""
    return lambda slices: roofline_seconds(shape_of(slices, sizes.window), sizes, machine)
