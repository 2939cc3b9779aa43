"""From a model's dimensions to the numbers that bound its steps: FLOPs and bytes.

The same formulas serve an engine, which knows its model, and machines that nobody owns, whose
models are a few public numbers in a data file. Knows dense layers, grouped heads, sliding windows
and mixtures of experts; norms, rotations and other elementwise work are left to a fit.
"""

from __future__ import annotations

from dataclasses import dataclass

from headway.errors import InvalidRequest
from headway.steptime.shape import ModelSizes


@dataclass(frozen=True, slots=True, kw_only=True)
class Architecture:
    """A decoder-only transformer in numbers of elements; raises `InvalidRequest` where absurd."""

    hidden: int
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    intermediate: int
    """Inner width of a dense layer's MLP."""
    vocab: int
    tied: bool = False
    """The head's matrix is the embedding's."""
    gated: bool = True
    """The MLP has a gate: three matrices, not two."""
    window: int | None = None
    window_layers: int = 0
    """Layers that attend to the window only; the others attend to everything."""
    experts: int = 0
    experts_per_token: int = 0
    expert_intermediate: int = 0
    expert_layers: int = 0
    """Layers whose MLP is a mixture of experts."""

    def __post_init__(self) -> None:
        for name in ("hidden", "layers", "heads", "kv_heads", "head_dim", "vocab"):
            if getattr(self, name) < 1:
                raise InvalidRequest(f"{name} must be at least 1", field=name)
        for name in ("window_layers", "expert_layers"):
            if not 0 <= getattr(self, name) <= self.layers:
                raise InvalidRequest(f"{name} must be between 0 and {self.layers}", field=name)
        if self.window_layers and not self.window:
            raise InvalidRequest("layers with a window need its size", field="window")
        if self.expert_layers and not 0 < self.experts_per_token <= self.experts:
            raise InvalidRequest(
                f"experts_per_token must be between 1 and {self.experts}", field="experts_per_token"
            )

    @property
    def attention_weights(self) -> int:
        """Of one layer: queries, keys, values and the way out."""
        return 2 * self.hidden * self.head_dim * (self.heads + self.kv_heads)

    @property
    def dense_weights(self) -> int:
        """Of all layers, but for experts; a mixture's router counts."""
        matrices = 3 if self.gated else 2
        mlp = (self.layers - self.expert_layers) * matrices * self.hidden * self.intermediate
        routers = self.expert_layers * self.hidden * self.experts
        return self.layers * self.attention_weights + mlp + routers

    @property
    def expert_weights(self) -> int:
        """Of all experts of all layers."""
        matrices = 3 if self.gated else 2
        one = matrices * self.hidden * self.expert_intermediate
        return self.expert_layers * self.experts * one

    @property
    def head_weights(self) -> int:
        return self.hidden * self.vocab

    @property
    def parameters(self) -> int:
        """Of all matrices, the embedding included."""
        head = self.head_weights * (1 if self.tied else 2)
        return self.dense_weights + self.expert_weights + head


def model_sizes(
    architecture: Architecture,
    *,
    name: str,
    weight_bits: float,
    kv_bytes_per_element: float,
    head_bits: float | None = None,
    weight_bytes: float | None = None,
) -> ModelSizes:
    """The sizes of a model stored with so many bits a weight; `head_bits` None is the same.

    `weight_bytes` is what all matrices take, embedding included, where that was counted rather
    than computed; what the head leaves of it is then the layers'.
    """
    head_bits = weight_bits if head_bits is None else head_bits
    share = architecture.experts_per_token / architecture.experts if architecture.experts else 1.0
    expert_weights = architecture.expert_weights
    head_bytes = architecture.head_weights * head_bits / 8
    layer_bytes = (architecture.dense_weights + expert_weights) * weight_bits / 8
    expert_bytes = expert_weights * weight_bits / 8
    if weight_bytes is not None:
        left = weight_bytes - head_bytes * (1 if architecture.tied else 2)
        if left > 0:
            expert_bytes *= left / layer_bytes
            layer_bytes = left
    return ModelSizes(
        name=name,
        flops_per_token=2 * (architecture.dense_weights + share * expert_weights),
        layer_bytes=layer_bytes,
        lm_head_flops=2 * architecture.head_weights,
        lm_head_bytes=head_bytes,
        attention_flops_per_pair=4 * architecture.heads * architecture.head_dim,
        kv_bytes_per_position=2
        * architecture.kv_heads
        * architecture.head_dim
        * kv_bytes_per_element,
        full_layers=architecture.layers - architecture.window_layers,
        window_layers=architecture.window_layers,
        window=architecture.window if architecture.window_layers else None,
        expert_bytes=expert_bytes,
        expert_share=share,
    )
