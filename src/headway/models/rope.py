"""Rotary position embeddings: the frequencies of a family, and tables of cosines and sines.

Computed in float32 in the order in which transformers computes them, so that long positions round
the same way. Sources: linear (position interpolation), llama3 (Llama 3.1), yarn (arXiv 2309.00071).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from headway.checkpoint.config import ModelConfig, RopeScaling
from headway.errors import ModelError


@dataclass(frozen=True, slots=True, kw_only=True)
class RopeTable:
    """Cosines and sines of all positions, float32 [positions, head_dim] each."""

    cos: Tensor
    sin: Tensor

    def at(self, positions: Tensor) -> tuple[Tensor, Tensor]:
        """Rows of the tables for positions [T]."""
        return self.cos.index_select(0, positions), self.sin.index_select(0, positions)


def rope_table(
    config: ModelConfig, *, length: int, device: torch.device, local: bool = False
) -> RopeTable:
    """The table for positions below `length`; `local` is that of Gemma 3's sliding layers."""
    theta, scaling = config.rope_theta, config.rope_scaling
    if local and config.rope_local_theta is not None:
        theta, scaling = config.rope_local_theta, None
    steps, factor = frequencies(config.head_dim, theta, scaling, config.max_position)
    angles = torch.arange(length, dtype=torch.float32)[:, None] * steps
    angles = torch.cat((angles, angles), dim=-1)
    return RopeTable(cos=(angles.cos() * factor).to(device), sin=(angles.sin() * factor).to(device))


def frequencies(
    head_dim: int, theta: float, scaling: RopeScaling | None, max_position: int
) -> tuple[Tensor, float]:
    """Radians per position of each component pair [head_dim / 2], and a factor on cos and sin."""
    exponents = torch.arange(0, head_dim, 2, dtype=torch.float32) / head_dim
    plain = 1.0 / (theta**exponents)
    if scaling is None:
        return plain, 1.0
    if scaling.kind == "linear":
        return plain / scaling.factor, 1.0
    trained = scaling.original_max_position or max_position
    if scaling.kind == "llama3":
        return _llama3(plain, scaling, trained), 1.0
    if scaling.kind == "yarn":
        return _yarn(theta**exponents, theta, scaling, trained), _yarn_factor(scaling)
    raise ModelError(f"unsupported rope scaling {scaling.kind!r}", field="rope_scaling")


def _llama3(plain: Tensor, scaling: RopeScaling, trained: int) -> Tensor:
    low, high = scaling.low_freq_factor, scaling.high_freq_factor
    wavelength = 2 * math.pi / plain
    stretched = torch.where(wavelength > trained / low, plain / scaling.factor, plain)
    share = (trained / wavelength - low) / (high - low)
    blended = (1 - share) * stretched / scaling.factor + share * stretched
    between = (wavelength >= trained / high) & (wavelength <= trained / low)
    return torch.where(between, blended, stretched)


def _yarn(powers: Tensor, theta: float, scaling: RopeScaling, trained: int) -> Tensor:
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
    ramp = ((torch.arange(pairs, dtype=torch.float32) - low) / (high - low)).clamp(0, 1)
    kept = 1 - ramp
    return (1.0 / (scaling.factor * powers)) * (1 - kept) + (1.0 / powers) * kept


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
