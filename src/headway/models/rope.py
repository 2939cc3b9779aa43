"""Rotary position embeddings: the frequencies of a family, and tables of cosines and sines.

Computed in float32 in the order in which transformers computes them, so that long positions round
the same way. Sources: linear (position interpolation), llama3 (Llama 3.1), yarn (arXiv 2309.00071).
"""

from __future__ import annotations

import math

import numpy as np

from headway.errors import ModelError
from headway.ops import Floats
from headway.types.model import ModelConfig, RopeScaling


def rope_table(config: ModelConfig, *, length: int, local: bool = False) -> tuple[Floats, Floats]:
    """Cosines and sines of the positions below `length`, float32 [length, head_dim] each.

    `local` gives those of Gemma 3's sliding layers. Raises `ModelError` for an unknown scaling.
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
