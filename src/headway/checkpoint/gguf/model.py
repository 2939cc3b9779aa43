"""A GGUF file as a `Checkpoint`: its keys as a `ModelConfig`, its names and row orders.

Rows of queries and keys lie in llama.cpp's interleaved rotary order in files of the `llama`
architecture (Mistral's too) and are put back into the half-split order of all other sources.
Gemma's norms come with their +1 added, which is the canonical form. Llama 3's rope scaling is
stored as a table of divisors, one for each frequency; every published model of the kind was made
with the same low and high frequency factors and trained context, so the table tells the one number
that varies, and is then compared with what that number gives.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from gguf.constants import GGMLQuantizationType

from headway.checkpoint.gguf.file import FOUR_BIT, GgufFile, GgufKeys, open_gguf
from headway.checkpoint.gguf.vocabulary import read_vocabulary
from headway.checkpoint.layout import Piece
from headway.checkpoint.packing import FourBitBlocks
from headway.checkpoint.source import Location, check_config, chunks, stated_sampling
from headway.errors import ModelError
from headway.types.model import Architecture, ModelConfig, RopeScaling, TextConfig
from headway.types.sampling_defaults import SamplingDefaults

_TRAINED_CONTEXT = 8192
_LOW, _HIGH = 1.0, 4.0


def llama3_scaling(
    divisors: npt.NDArray[np.float32], *, theta: float, path: Path
) -> RopeScaling | None:
    """The scaling that gives these divisors [head_dim / 2]; None where all are 1."""
    factor = float(divisors.max())
    if not np.isfinite(divisors).all() or factor < 1.0 or theta <= 1.0:
        raise ModelError(f"{path}: rope_freqs.weight holds impossible divisors")
    if factor == 1.0 and float(divisors.min()) == 1.0:
        return None
    expected = llama3_divisors(factor, theta=theta, count=len(divisors))
    if not np.allclose(divisors, expected, rtol=1e-3):
        raise ModelError(f"{path}: rope_freqs.weight is not Llama 3's scaling; not supported")
    return RopeScaling(
        kind="llama3",
        factor=factor,
        original_max_position=_TRAINED_CONTEXT,
        low_freq_factor=_LOW,
        high_freq_factor=_HIGH,
    )


def llama3_divisors(factor: float, *, theta: float, count: int) -> npt.NDArray[np.float64]:
    """What each of `count` frequencies is divided by: 1 if fast, `factor` if slow, or between."""
    wavelengths = 2 * math.pi * theta ** (np.arange(count) / count)
    smooth = (_TRAINED_CONTEXT / wavelengths - _LOW) / (_HIGH - _LOW)
    smooth = np.clip(smooth, 0.0, 1.0)
    divisors: npt.NDArray[np.float64] = 1.0 / ((1.0 - smooth) / factor + smooth)
    return divisors


Array = npt.NDArray[Any]

_ARCHITECTURES: dict[str, Architecture] = {
    "llama": "llama",
    "qwen2": "qwen2",
    "qwen3": "qwen3",
    "qwen3moe": "qwen3_moe",
    "gemma3": "gemma3",
}
_OUTSIDE = {"embed": "token_embd", "norm": "output_norm", "head": "output"}
_INSIDE = {
    "attention_norm": "attn_norm",
    "q": "attn_q",
    "k": "attn_k",
    "v": "attn_v",
    "q_norm": "attn_q_norm",
    "k_norm": "attn_k_norm",
    "output": "attn_output",
    "post_attention_norm": "post_attention_norm",
    "mlp_norm": "ffn_norm",
    "gate": "ffn_gate",
    "up": "ffn_up",
    "down": "ffn_down",
    "post_mlp_norm": "post_ffw_norm",
    "router": "ffn_gate_inp",
}
_PLAIN = (GGMLQuantizationType.F32, GGMLQuantizationType.F16, GGMLQuantizationType.BF16)
_SAMPLING = {
    "general.sampling.temp": "temperature",
    "general.sampling.top_k": "top_k",
    "general.sampling.top_p": "top_p",
    "general.sampling.min_p": "min_p",
    "general.sampling.penalty_repeat": "repetition_penalty",
}
_ROPE_FACTORS = "rope_freqs.weight"
_GEMMA_LOCAL_THETA = 10000.0
_GEMMA_PATTERN = 6
_GEMMA_27B_LAYERS = 62


@dataclass(frozen=True, slots=True, kw_only=True)
class GgufCheckpoint:
    """See `Checkpoint`."""

    file: GgufFile
    config: ModelConfig
    text: TextConfig
    tokenizer_json: bytes

    @property
    def path(self) -> Path:
        return self.file.path

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        return {
            name: tensor.shape
            for name, tensor in self.file.tensors.items()
            if name != _ROPE_FACTORS
        }

    def locate(self, piece: Piece) -> Location:
        kind = "bias" if piece.bias else "weight"
        if piece.layer is None:
            return Location(tensor=f"{_OUTSIDE[piece.role]}.{kind}", shape=piece.shape)
        name = f"blk.{piece.layer}.{_INSIDE[piece.role]}"
        if piece.expert is None:
            return Location(tensor=f"{name}.{kind}", shape=piece.shape)
        return Location(
            tensor=f"{name}_exps.{kind}",
            shape=(self.config.num_experts, *piece.shape),
            first_row=piece.expert * piece.shape[0],
        )

    def read(self, piece: Piece) -> Iterator[npt.NDArray[np.float32]]:
        name = self.locate(piece).tensor
        for start, stop in self._chunks(piece):
            rows = self.file.rows(name, start, stop)
            yield _half_split(rows, piece) if self._interleaved(piece) else rows

    def quantised(self, piece: Piece) -> bool:
        return self._kind(piece) not in _PLAIN

    def read_blocks(self, piece: Piece) -> Iterator[FourBitBlocks] | None:
        return self._blocks(piece) if self._kind(piece) in FOUR_BIT else None

    def _blocks(self, piece: Piece) -> Iterator[FourBitBlocks]:
        name = self.locate(piece).tensor
        for start, stop in self._chunks(piece):
            found = self.file.blocks(name, start, stop)
            if self._interleaved(piece):
                found = FourBitBlocks(
                    q=_half_split(found.q, piece),
                    scale=_half_split(found.scale, piece),
                    minimum=_half_split(found.minimum, piece),
                )
            yield found

    def _chunks(self, piece: Piece) -> Iterator[tuple[int, int]]:
        """Ranges of the tensor's rows; all at once where rows change places."""
        if self._interleaved(piece):
            return iter([(0, math.prod(piece.shape[:-1]))])
        return chunks(piece.shape, first=self.locate(piece).first_row)

    def _interleaved(self, piece: Piece) -> bool:
        return piece.heads is not None and self.config.architecture == "llama"

    def _kind(self, piece: Piece) -> GGMLQuantizationType:
        return self.file.tensors[self.locate(piece).tensor].kind


def _half_split(rows: Array, piece: Piece) -> Array:
    """Rows ordered (pair, half) within a head come back ordered (half, pair)."""
    assert piece.heads is not None
    rows = rows.reshape(piece.shape[0], -1)
    pairs = rows.reshape(piece.heads, -1, 2, rows.shape[1])
    return pairs.swapaxes(1, 2).reshape(rows.shape)


def open_gguf_checkpoint(path: Path) -> GgufCheckpoint:
    """Open a GGUF file as a checkpoint; raises `ModelError` naming the file and the reason."""
    file = open_gguf(path)
    keys = GgufKeys(path=path, values=file.metadata)
    if keys.integer("split.count", 1) > 1:
        raise ModelError(
            f"{path}: this is one part of a split GGUF; merge the parts first "
            "(llama-gguf-split --merge)"
        )
    config = _config(file, keys)
    tokenizer_json, text = read_vocabulary(keys, config.vocab_size)
    text = replace(text, sampling=_sampling(file))
    return GgufCheckpoint(file=file, config=config, text=text, tokenizer_json=tokenizer_json)


def _sampling(file: GgufFile) -> SamplingDefaults:
    """Sampling defaults, which some files state since 2025."""
    values = {name: file.metadata.get(key) for key, name in _SAMPLING.items()}
    plain = {
        name: _short(value) if isinstance(value, float) else value for name, value in values.items()
    }
    return stated_sampling(file.path, plain)


def _config(file: GgufFile, keys: GgufKeys) -> ModelConfig:
    stated = keys.text("general.architecture")
    architecture = _ARCHITECTURES.get(stated)
    if architecture is None:
        known = ", ".join(sorted(_ARCHITECTURES))
        raise ModelError(f"{file.path}: unknown architecture {stated!r}; known: {known}")
    keys = keys.under(stated)
    hidden, layers = keys.integer("embedding_length"), keys.integer("block_count")
    heads = keys.uniform("attention.head_count")
    if not 1 <= heads <= hidden:
        raise ModelError(f"{file.path}: {heads} attention heads for {hidden} elements")
    head_dim = keys.integer("attention.key_length", hidden // heads)
    if keys.integer("attention.value_length", head_dim) != head_dim:
        raise ModelError(f"{file.path}: keys and values of different sizes are not supported")
    if keys.integer("rope.dimension_count", head_dim) != head_dim:
        raise ModelError(f"{file.path}: rotary embedding of part of a head is not supported")
    experts = keys.integer("expert_count", 0)
    if bool(experts) != (architecture == "qwen3_moe"):
        raise ModelError(f"{file.path}: {stated} with {experts} experts is not supported")
    embedding = file.tensors.get("token_embd.weight")
    config = ModelConfig(
        architecture=architecture,
        name=keys.text("general.name", file.path.stem),
        vocab_size=embedding.shape[0] if embedding else keys.integer("vocab_size"),
        hidden_size=hidden,
        num_layers=layers,
        num_heads=heads,
        num_kv_heads=keys.uniform("attention.head_count_kv", heads),
        head_dim=head_dim,
        intermediate_size=keys.uniform("feed_forward_length"),
        max_position=keys.integer("context_length"),
        norm_eps=_short(keys.number("attention.layer_norm_rms_epsilon")),
        rope_theta=keys.number("rope.freq_base", 1e6 if architecture == "gemma3" else 1e4),
        rope_scaling=_rope_scaling(file, keys),
        tie_embeddings="output.weight" not in file.tensors,
        attention_bias="blk.0.attn_q.bias" in file.tensors,
        output_bias="blk.0.attn_output.bias" in file.tensors,
        mlp_bias="blk.0.ffn_gate.bias" in file.tensors,
        qk_norm=architecture in ("qwen3", "qwen3_moe", "gemma3"),
        num_experts=experts,
        num_experts_per_token=keys.integer("expert_used_count", 0),
        moe_intermediate_size=keys.integer("expert_feed_forward_length", 0),
        **_family(architecture, keys, hidden, layers, heads, head_dim),
    )
    return check_config(config, file.path)


def _family(
    architecture: Architecture, keys: GgufKeys, hidden: int, layers: int, heads: int, head_dim: int
) -> dict[str, Any]:
    """The settings of Gemma 3 that its files leave unsaid, and Mistral's window."""
    window = keys.integer("attention.sliding_window", 0)
    if architecture != "gemma3":
        if not window or architecture != "llama" or window >= keys.integer("context_length"):
            return {}
        return {"sliding_window": window, "sliding_layers": (True,) * min(layers, 1024)}
    scale = hidden / heads if layers == _GEMMA_27B_LAYERS else head_dim
    period = keys.integer("attention.sliding_window_pattern", _GEMMA_PATTERN)
    return {
        "sliding_window": window,
        "sliding_layers": tuple((i + 1) % max(period, 1) != 0 for i in range(min(layers, 1024))),
        "rope_local_theta": keys.number("rope.freq_base_swa", _GEMMA_LOCAL_THETA),
        "embedding_scale": math.sqrt(max(hidden, 0)),
        "query_scale": max(scale, 1) ** -0.5,
        "activation": "gelu_tanh",
        "final_softcap": keys.number("final_logit_softcapping", 0.0) or None,
    }


def _rope_scaling(file: GgufFile, keys: GgufKeys) -> RopeScaling | None:
    if _ROPE_FACTORS in file.tensors:
        tensor = file.tensors[_ROPE_FACTORS]
        if len(tensor.shape) != 1:
            raise ModelError(f"{file.path}: {_ROPE_FACTORS} is not a vector")
        return llama3_scaling(
            file.rows(_ROPE_FACTORS, 0, 1)[0],
            theta=keys.number("rope.freq_base", 1e4),
            path=file.path,
        )
    kind = keys.text("rope.scaling.type", "none")
    factor = keys.number("rope.scaling.factor", keys.number("rope.scale_linear", 1.0))
    if kind == "none" and factor != 1.0:
        kind = "linear"
    if kind == "none" or (kind == "linear" and factor == 1.0):
        return None
    original = keys.integer("rope.scaling.original_context_length", 0) or None
    if kind == "linear":
        return RopeScaling(kind="linear", factor=factor, original_max_position=original)
    if kind == "yarn":
        return RopeScaling(
            kind="yarn",
            factor=factor,
            original_max_position=original or keys.integer("context_length"),
            beta_fast=keys.number("rope.scaling.yarn_beta_fast", 32.0),
            beta_slow=keys.number("rope.scaling.yarn_beta_slow", 1.0),
        )
    raise ModelError(f"{file.path}: rope scaling {kind!r} is not supported")


def _short(value: float) -> float:
    """The shortest decimal with this float32 value: 1e-5 rather than 9.999999747378752e-06."""
    return float(str(np.float32(value)))
