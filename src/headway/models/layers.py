"""The parts that families share: attention, gated MLP, mixture of experts, rotary embeddings.

A part holds its weights' handles and its numbers, and `forward` computes it in the operations of
`Ops`, over rows [T, H] of a step's T tokens. The functions at the top build a part from the config
and the tensors' canonical names. What one family does differently stands in that family's file.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from headway.errors import ModelError
from headway.ops import AttentionSpec, Floats, Matrix, Ops, Rope, Weights, X
from headway.types.model import Activation, ModelConfig, RopeScaling


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


def rope_table(config: ModelConfig, *, length: int, local: bool = False) -> tuple[Floats, Floats]:
    """Cosines and sines of the positions below `length`, float32 [length, head_dim] each.

    `local` gives those of Gemma 3's sliding layers. Raises `ModelError` for an unknown scaling.
    Computed in float32 in the order in which transformers computes them, so that long positions
    round the same way. Sources: linear (position interpolation), llama3 (Llama 3.1), yarn
    (arXiv 2309.00071).
    """
    theta, scaling = config.rope_theta, config.rope_scaling
    if local and config.rope_local_theta is not None:
        theta, scaling = config.rope_local_theta, None
    steps, factor = frequencies(config.head_dim, theta, scaling, config.max_position)
    angles = np.arange(length, dtype=np.float32)[:, None] * steps
    angles = np.concatenate((angles, angles), axis=1)
    wide = np.float32(factor)
    return np.cos(angles) * wide, np.sin(angles) * wide


def frequencies(
    head_dim: int, theta: float, scaling: RopeScaling | None, max_position: int
) -> tuple[Floats, float]:
    """Radians per position of each component pair [head_dim / 2], and a factor on cos and sin."""
    exponents = np.arange(0, head_dim, 2, dtype=np.float32) / np.float32(head_dim)
    # In double precision and rounded once, as good libraries of float32 powers come out.
    powers: Floats = (theta ** exponents.astype(np.float64)).astype(np.float32)
    inv_freq: Floats = np.float32(1.0) / powers
    if scaling is None:
        return inv_freq, 1.0
    if scaling.kind == "linear":
        return inv_freq / np.float32(scaling.factor), 1.0
    trained = scaling.original_max_position or max_position
    if scaling.kind == "llama3":
        return _llama3(inv_freq, scaling, trained), 1.0
    if scaling.kind == "yarn":
        return _yarn(powers, theta, scaling, trained), _yarn_factor(scaling)
    raise ModelError(f"unsupported rope scaling {scaling.kind!r}", field="rope_scaling")


def _llama3(inv_freq: Floats, scaling: RopeScaling, trained: int) -> Floats:
    low, high = np.float32(scaling.low_freq_factor), np.float32(scaling.high_freq_factor)
    factor, one = np.float32(scaling.factor), np.float32(1)
    wavelength = np.float32(2 * math.pi) / inv_freq
    stretched = np.where(wavelength > trained / low, inv_freq / factor, inv_freq)
    smooth = (np.float32(trained) / wavelength - low) / (high - low)
    blended = (one - smooth) * stretched / factor + smooth * stretched
    between = (wavelength >= trained / high) & (wavelength <= trained / low)
    return np.where(between, blended, stretched)


def _yarn(powers: Floats, theta: float, scaling: RopeScaling, trained: int) -> Floats:
    pairs = len(powers)

    def component(rotations: float) -> float:
        """Where a component pair turns that many times over the trained context."""
        turns = trained / (rotations * 2 * math.pi)
        return 2 * pairs * math.log(turns) / (2 * math.log(theta))

    low, high = component(scaling.beta_fast), component(scaling.beta_slow)
    if scaling.truncate:
        low, high = math.floor(low), math.ceil(high)
    low, high = max(low, 0), min(high, 2 * pairs - 1)
    if low == high:
        high += 0.001
    one = np.float32(1)
    indexes = np.arange(pairs, dtype=np.float32) - np.float32(low)
    ramp: Floats = np.clip(indexes / np.float32(high - low), 0, 1)
    kept: Floats = one - ramp
    stretched: Floats = one / (np.float32(scaling.factor) * powers)
    blended: Floats = stretched * (one - kept) + one / powers * kept
    return blended


def _yarn_factor(scaling: RopeScaling) -> float:
    if scaling.attention_factor is not None:
        return scaling.attention_factor

    def grown(mscale: float) -> float:
        if scaling.factor <= 1:
            return 1.0
        return 0.1 * mscale * math.log(scaling.factor) + 1.0

    if scaling.mscale and scaling.mscale_all_dim:
        return grown(scaling.mscale) / grown(scaling.mscale_all_dim)
    return grown(1.0)
