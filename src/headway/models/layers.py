"""The parts that families share: attention, gated MLP, mixture of experts.

A part holds its weights and numbers and computes in the words of `Ops`; the functions at the top
load it from canonical names. What a family does differently is said in its recipe, not here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from headway.checkpoint.config import Activation, ModelConfig
from headway.models.weights import Weights
from headway.ops import Batch, Cache, Matrix, Ops

Rotation = tuple[Tensor, Tensor]
"""Cosines and sines of the step's positions, [T, head_dim] each."""


class Mlp(Protocol):
    def forward(self, ops: Ops, x: Tensor) -> Tensor:
        """[T, H] to [T, H]."""
        ...


def attention(config: ModelConfig, weights: Weights, layer: int) -> Attention:
    """Attention of one layer, with the biases and norms that the config names."""
    prefix = f"layers.{layer}"
    norms = None
    if config.qk_norm:
        norms = (weights.norm(f"{prefix}.q_norm"), weights.norm(f"{prefix}.k_norm"))
    return Attention(
        layer=layer,
        qkv=weights.matrix(f"{prefix}.qkv", bias=config.attention_bias),
        output=weights.matrix(f"{prefix}.output", bias=config.output_bias),
        norms=norms,
        eps=config.norm_eps,
        heads=config.num_heads,
        kv_heads=config.num_kv_heads,
        head_dim=config.head_dim,
        scale=config.attention_scale,
        window=config.window(layer),
    )


def gated_mlp(config: ModelConfig, weights: Weights, layer: int) -> GatedMlp:
    prefix = f"layers.{layer}"
    return GatedMlp(
        gate_up=weights.matrix(f"{prefix}.gate_up", bias=config.mlp_bias),
        down=weights.matrix(f"{prefix}.down", bias=config.mlp_bias),
        activation=config.activation,
    )


def experts(config: ModelConfig, weights: Weights, layer: int) -> Experts:
    prefix = f"layers.{layer}"
    return Experts(
        router=weights.matrix(f"{prefix}.router"),
        gate_up=weights.stack(f"{prefix}.experts.gate_up"),
        down=weights.stack(f"{prefix}.experts.down"),
        chosen=config.num_experts_per_token,
        normalise=config.norm_topk_prob,
        activation=config.activation,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Attention:
    """Grouped-query attention over the paged cache, rotary positions, optional QK norms."""

    layer: int
    qkv: Matrix
    output: Matrix
    norms: tuple[Tensor, Tensor] | None
    eps: float
    heads: int
    kv_heads: int
    head_dim: int
    scale: float
    window: int | None

    def forward(
        self, ops: Ops, x: Tensor, rotation: Rotation, cache: Cache, batch: Batch
    ) -> Tensor:
        """[T, H] to [T, H]; the step's keys and values are stored on the way."""
        both = self.heads + self.kv_heads
        qkv = ops.linear(x, self.qkv).view(len(x), both + self.kv_heads, self.head_dim)
        values = qkv[:, both:]
        if self.norms is None:
            turned = ops.rotate(qkv[:, :both], *rotation)
            queries, keys = turned[:, : self.heads], turned[:, self.heads :]
        else:
            queries = ops.norm(qkv[:, : self.heads], self.norms[0], self.eps)
            keys = ops.norm(qkv[:, self.heads : both], self.norms[1], self.eps)
            queries, keys = ops.rotate(queries, *rotation), ops.rotate(keys, *rotation)
        ops.store(keys, values, cache, self.layer, batch)
        mixed = ops.attention(
            queries, cache, self.layer, batch, scale=self.scale, window=self.window
        )
        return ops.linear(mixed, self.output)


@dataclass(frozen=True, slots=True, kw_only=True)
class GatedMlp:
    gate_up: Matrix
    down: Matrix
    activation: Activation

    def forward(self, ops: Ops, x: Tensor) -> Tensor:
        return ops.linear(ops.gate(ops.linear(x, self.gate_up), self.activation), self.down)


@dataclass(frozen=True, slots=True, kw_only=True)
class Experts:
    """A mixture of gated MLPs, of which every token uses its router's best few."""

    router: Matrix
    gate_up: tuple[Matrix, ...]
    down: tuple[Matrix, ...]
    chosen: int
    normalise: bool
    activation: Activation

    def forward(self, ops: Ops, x: Tensor) -> Tensor:
        return ops.experts(
            x,
            ops.linear(x, self.router),
            self.gate_up,
            self.down,
            chosen=self.chosen,
            normalise=self.normalise,
            activation=self.activation,
        )
