"""A model and a machine as the few numbers that bound a step's time. Operations and bytes."""

from __future__ import annotations

from dataclasses import dataclass


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
class MachineLimits:
    """What a machine can do at most, with one number format and number of threads."""

    device: str
    """For people: the processor's or accelerator's name."""
    arithmetic: float
    """Operations a second."""
    bandwidth: float
    """Bytes a second from memory."""
    dtype: str = ""
    threads: int = 0
