"""What of a step its duration depends on, as a few counts.

Taken from the plan alone, so that a step's time can be foretold before it is computed.
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
