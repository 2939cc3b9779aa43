"""The parts that families share: attention, gated MLP, mixture of experts.

A part holds its weights and numbers and computes in the words of `Ops`; the functions at the top
load it from canonical names. What a family does differently is said in its recipe, not here.

The body that most families share: norm, attention, add; norm, MLP, add.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from headway.ops import AttentionSpec, Matrix, Ops, Rope, Vector, Weights, X
from headway.types.model import Activation, ModelConfig


class Mlp(Protocol):
    def forward(self, ops: Ops[X], x: X) -> X:
        """[T, H] to [T, H]."""
        ...


def attention(config: ModelConfig, weights: Weights, layer: int, rope: Rope) -> Attention:
    """Attention of one layer, with the biases and norms that the config names."""
    prefix = f"layers.{layer}"
    norms = None
    if config.qk_norm:
        norms = (weights.vector(f"{prefix}.q_norm"), weights.vector(f"{prefix}.k_norm"))
    return Attention(
        qkv=weights.matrix(f"{prefix}.qkv", bias=config.attention_bias),
        output=weights.matrix(f"{prefix}.output", bias=config.output_bias),
        spec=AttentionSpec(
            layer=layer,
            heads=config.num_heads,
            kv_heads=config.num_kv_heads,
            head_dim=config.head_dim,
            scale=config.attention_scale,
            window=config.window(layer),
            rope=rope,
            norms=norms,
            eps=config.norm_eps,
        ),
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
    """Attention between the two products that lead into and out of it."""

    qkv: Matrix
    output: Matrix
    spec: AttentionSpec

    def forward(self, ops: Ops[X], x: X) -> X:
        """[T, H] to [T, H]; the step's keys and values are stored on the way."""
        return ops.linear(ops.attention(ops.linear(x, self.qkv), self.spec), self.output)


@dataclass(frozen=True, slots=True, kw_only=True)
class GatedMlp:
    gate_up: Matrix
    down: Matrix
    activation: Activation

    def forward(self, ops: Ops[X], x: X) -> X:
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

    def forward(self, ops: Ops[X], x: X) -> X:
        return ops.experts(
            x,
            ops.linear(x, self.router),
            self.gate_up,
            self.down,
            chosen=self.chosen,
            normalise=self.normalise,
            activation=self.activation,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class PreNormLayer:
    attention_norm: Vector
    attention: Attention
    mlp_norm: Vector
    mlp: Mlp


@dataclass(frozen=True, slots=True, kw_only=True)
class PreNormBackbone:
    layers: tuple[PreNormLayer, ...]
    norm: Vector
    eps: float

    def forward(self, ops: Ops[X], x: X) -> X:
        residual = x
        for layer in self.layers:
            x = ops.norm(residual, layer.attention_norm, self.eps)
            residual = ops.add(residual, layer.attention.forward(ops, x))
            x = ops.norm(residual, layer.mlp_norm, self.eps)
            residual = ops.add(residual, layer.mlp.forward(ops, x))
        return ops.norm(residual, self.norm, self.eps)
