"""The parts that families share: attention, gated MLP, mixture of experts.

A part holds its weights' handles and its numbers, and `forward` computes it in the operations of
`Ops`, over rows [T, H] of a step's T tokens. The functions at the top build a part from the config
and the tensors' canonical names. What one family does differently stands in that family's file.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from headway.ops import AttentionSpec, Matrix, Ops, Rope, Weights, X
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
    """The dense MLP of one layer."""
    prefix = f"layers.{layer}"
    return GatedMlp(
        gate_up=weights.matrix(f"{prefix}.gate_up", bias=config.mlp_bias),
        down=weights.matrix(f"{prefix}.down", bias=config.mlp_bias),
        activation=config.activation,
    )


def experts(config: ModelConfig, weights: Weights, layer: int) -> Experts:
    """The mixture of experts of one layer."""
    prefix = f"layers.{layer}"
    return Experts(
        router=weights.matrix(f"{prefix}.router"),
        gate_up=weights.stack(f"{prefix}.experts.gate_up"),
        down=weights.stack(f"{prefix}.experts.down"),
        top_k=config.num_experts_per_token,
        normalise=config.norm_topk_prob,
        activation=config.activation,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Attention:
    """Grouped-query attention with the projections that lead into and out of it."""

    qkv: Matrix
    output: Matrix
    spec: AttentionSpec

    def forward(self, ops: Ops[X], x: X) -> X:
        """[T, H] to [T, H]; the step's keys and values are stored on the way."""
        return ops.linear(ops.attention(ops.linear(x, self.qkv), self.spec), self.output)


@dataclass(frozen=True, slots=True, kw_only=True)
class GatedMlp:
    """down(activation(gate(x)) * up(x)), with gate and up in one matrix."""

    gate_up: Matrix
    down: Matrix
    activation: Activation

    def forward(self, ops: Ops[X], x: X) -> X:
        return ops.linear(ops.gate(ops.linear(x, self.gate_up), self.activation), self.down)


@dataclass(frozen=True, slots=True, kw_only=True)
class Experts:
    """A mixture of gated MLPs: every token uses the `top_k` that its router's logits prefer."""

    router: Matrix
    gate_up: tuple[Matrix, ...]
    down: tuple[Matrix, ...]
    top_k: int
    normalise: bool
    activation: Activation

    def forward(self, ops: Ops[X], x: X) -> X:
        return ops.experts(
            x,
            ops.linear(x, self.router),
            self.gate_up,
            self.down,
            top_k=self.top_k,
            normalise=self.normalise,
            activation=self.activation,
        )
