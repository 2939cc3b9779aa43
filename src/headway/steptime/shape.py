"""What a step's time depends on: the step's shape, the model's sizes, the machine's peak rates.

A shape is taken from the plan alone, so that a step's time can be predicted before it is computed.
FLOPs are floating-point operations; a multiplication and an addition are two.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from headway.types import Slice


@dataclass(frozen=True, slots=True, kw_only=True)
class StepShape:
    """Counts over the slices of a step; a slice of one token is a decode, others are prefills.

    The context of a token is the number of positions that it attends to, itself included. Fields
    with `window` count no more than the model's sliding window a token, for its sliding layers;
    without one they are 0.
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


def shape_of(slices: Iterable[Slice], window: int | None = None) -> StepShape:
    """The shape of a step; `window` is the sliding window of the model, None if it has none."""
    tokens = sequences = rows = decodes = decode = pairs = context = 0
    decode_near = pairs_near = context_near = 0
    for part in slices:
        count, start = len(part.tokens), part.start
        tokens += count
        sequences += 1
        rows += part.outputs
        if count == 1:
            decodes += 1
            decode += start + 1
            if window is not None:
                decode_near += min(start + 1, window)
            continue
        pairs += count * start + count * (count + 1) // 2
        context += start + count
        if window is not None:
            pairs_near += _pairs_within(start, count, window)
            context_near += min(start + count, window + count - 1)
    return StepShape(
        tokens=tokens,
        sequences=sequences,
        rows=rows,
        decodes=decodes,
        decode_context=decode,
        prefill_pairs=pairs,
        prefill_context=context,
        decode_context_window=decode_near,
        prefill_pairs_window=pairs_near,
        prefill_context_window=context_near,
    )


def _pairs_within(start: int, count: int, window: int) -> int:
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
