"""What of a step its duration depends on, as a few counts.

Taken from the plan alone, so that a step's time can be foretold before it is computed.

A model and a machine as the few numbers that bound a step's time. Operations and bytes.
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
    """Tokens whose scores are computed."""
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
        rows += part.sample
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
    """One model in one form. An operation is a multiplication or an addition: a product has two."""

    name: str
    token_ops: float
    """Operations of the matrices that every new token passes; active experts only."""
    token_bytes: float
    """Bytes of these matrices, which a step reads once; all experts that its tokens may choose."""
    row_ops: float
    """Operations of the head for one token whose scores are computed."""
    row_bytes: float
    """Bytes of the head, which a step reads once if it computes any scores."""
    pair_ops: float
    """Operations of attention for one query and one key, over heads, of one layer."""
    position_bytes: float
    """Bytes of keys and values of one position of one layer."""
    full_layers: int
    """Layers that attend to everything."""
    window_layers: int = 0
    """Layers that attend to a sliding window."""
    window: int | None = None
    expert_bytes: float = 0.0
    """Part of `token_bytes` that is experts, of which a small step reads only some."""
    expert_share: float = 1.0
    """Share of the experts that one token uses."""

    @property
    def kv_bytes_per_token(self) -> float:
        """KV cache of one token over all layers."""
        return self.position_bytes * (self.full_layers + self.window_layers)


@dataclass(frozen=True, slots=True, kw_only=True)
class PeakRates:
    """What a machine can do at most, with one number format and number of threads."""

    device: str
    """For people: the processor's or accelerator's name."""
    arithmetic: float
    """Operations a second."""
    bandwidth: float
    """Bytes a second from memory."""
    dtype: str = ""
    threads: int = 0
