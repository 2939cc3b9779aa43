"""A Hugging Face `config.json` as a `ModelConfig`, in the spellings of transformers 4 and 5.

What a config asks for and Headway does not compute (another activation, part-head rotation, ...)
is refused by name; nothing is passed over in silence.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from headway.checkpoint.source import check_config
from headway.errors import ModelError
from headway.types.model import Activation, Architecture, ModelConfig, RopeScaling

_ARCHITECTURES: Mapping[str, Architecture] = {
    "llama": "llama",
    "mistral": "llama",
    "qwen2": "qwen2",
    "qwen3": "qwen3",
    "qwen3_moe": "qwen3_moe",
    "gemma3": "gemma3",
    "gemma3_text": "gemma3",
}
_ACTIVATIONS: Mapping[str, Activation] = {
    "silu": "silu",
    "swish": "silu",
    "gelu_pytorch_tanh": "gelu_tanh",
}
_MOST_LAYERS = 1024
_GEMMA_DEFAULTS: Mapping[str, Any] = {
    # Gemma's own files leave out what transformers has as a default.
    "vocab_size": 262_208,
    "num_attention_heads": 8,
    "num_key_value_heads": 4,
    "head_dim": 256,
    "max_position_embeddings": 131_072,
    "query_pre_attn_scalar": 256,
    "rope_theta": 1e6,
    "rope_local_base_freq": 1e4,
    "sliding_window_pattern": 6,
    "tie_word_embeddings": True,
    "hidden_activation": "gelu_pytorch_tanh",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Fields:
    """Typed access to the fields of a config, with one clear error."""

    path: Path
    values: Mapping[str, Any]

    def find(self, *names: str, default: Any = None) -> Any:
        """The first of these fields that is there and not null."""
        return next((self.values[n] for n in names if self.values.get(n) is not None), default)

    def integer(self, *names: str, default: int | None = None) -> int:
        value = self.find(*names, default=default)
        if type(value) is not int:
            raise ModelError(f"{self.path}: {names[0]} is {value!r}, not a whole number")
        return value

    def number(self, *names: str, default: float | None = None) -> float:
        value = self.find(*names, default=default)
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise ModelError(f"{self.path}: {names[0]} is {value!r}, not a number")
        try:
            return float(value)
        except OverflowError:
            raise ModelError(f"{self.path}: {names[0]} is too large") from None

    def flag(self, name: str, default: bool) -> bool:
        value = self.find(name, default=default)
        if not isinstance(value, bool):
            raise ModelError(f"{self.path}: {name} is {value!r}, neither true nor false")
        return value

    def inner(self, name: str) -> Fields:
        """The fields of an object within; none where it is absent."""
        value = self.find(name, default={})
        if not isinstance(value, dict):
            raise ModelError(f"{self.path}: {name} is not an object")
        return Fields(path=self.path, values=value)


def read_config(path: Path, values: Mapping[str, Any], name: str) -> ModelConfig:
    """The config of a text model, or of the text half of a multimodal Gemma 3."""
    kind = values.get("model_type")
    architecture = _ARCHITECTURES.get(kind) if isinstance(kind, str) else None
    if architecture is None:
        known = ", ".join(sorted(_ARCHITECTURES))
        raise ModelError(f"{path}: unknown model_type {kind!r}; known: {known}")
    fields = Fields(path=path, values=values)
    if fields.find("text_config") is not None:
        fields = fields.inner("text_config")
    if architecture == "gemma3":
        fields = Fields(path=path, values={**_GEMMA_DEFAULTS, **fields.values})
    if fields.find("quantization_config") or values.get("quantization_config"):
        raise ModelError(f"{path}: quantised safetensors are not supported; a GGUF file is")
    return check_config(_read(fields, architecture, name), path)


def _read(fields: Fields, architecture: Architecture, name: str) -> ModelConfig:
    hidden, heads = fields.integer("hidden_size"), fields.integer("num_attention_heads")
    layers = fields.integer("num_hidden_layers")
    if not (heads >= 1 and 1 <= layers <= _MOST_LAYERS and hidden >= 1):
        raise ModelError(f"{fields.path}: {layers} layers of {heads} heads, {hidden} elements")
    activation = fields.find("hidden_activation", "hidden_act", default="silu")
    if activation not in _ACTIVATIONS:
        raise ModelError(f"{fields.path}: activation {activation!r} is not supported")
    if fields.number("partial_rotary_factor", default=1.0) != 1.0:
        raise ModelError(f"{fields.path}: partial_rotary_factor is not supported")
    gemma, moe = architecture == "gemma3", architecture == "qwen3_moe"
    head_dim = fields.integer("head_dim", default=hidden // heads)
    bias = fields.flag("attention_bias", architecture == "qwen2")
    theta, scaling, local_theta = _rope(fields, gemma)
    sliding = _sliding(fields, architecture, layers)
    return ModelConfig(
        architecture=architecture,
        name=name,
        vocab_size=fields.integer("vocab_size"),
        hidden_size=hidden,
        num_layers=layers,
        num_heads=heads,
        num_kv_heads=fields.integer("num_key_value_heads", default=heads),
        head_dim=head_dim,
        intermediate_size=fields.integer("intermediate_size"),
        max_position=fields.integer("max_position_embeddings"),
        norm_eps=fields.number("rms_norm_eps", default=1e-6),
        rope_theta=theta,
        rope_scaling=scaling,
        rope_local_theta=local_theta,
        sliding_window=fields.integer("sliding_window") if any(sliding) else None,
        sliding_layers=sliding if any(sliding) else (),
        tie_embeddings=fields.flag("tie_word_embeddings", False),
        attention_bias=bias,
        output_bias=bias and architecture != "qwen2",
        mlp_bias=fields.flag("mlp_bias", False),
        qk_norm=architecture in ("qwen3", "qwen3_moe", "gemma3"),
        embedding_scale=math.sqrt(hidden) if gemma else 1.0,
        query_scale=_query_scale(fields) if gemma else None,
        activation=_ACTIVATIONS[activation],
        num_experts=fields.integer("num_experts", "num_local_experts") if moe else 0,
        num_experts_per_token=fields.integer("num_experts_per_tok") if moe else 0,
        moe_intermediate_size=fields.integer("moe_intermediate_size") if moe else 0,
        norm_topk_prob=fields.flag("norm_topk_prob", False) if moe else True,
        moe_layers=_moe_layers(fields, layers) if moe else (),
        attention_softcap=fields.number("attn_logit_softcapping", default=0.0) or None,
        final_softcap=fields.number("final_logit_softcapping", default=0.0) or None,
    )


def _query_scale(fields: Fields) -> float:
    scalar = fields.number("query_pre_attn_scalar")
    if scalar <= 0:
        raise ModelError(f"{fields.path}: query_pre_attn_scalar must be positive")
    return float(scalar**-0.5)


def _sliding(fields: Fields, architecture: Architecture, layers: int) -> tuple[bool, ...]:
    """Per layer, whether attention is windowed."""
    kinds = fields.find("layer_types")
    if kinds is not None:
        known = {"full_attention": False, "sliding_attention": True}
        if not isinstance(kinds, list) or len(kinds) != layers or set(kinds) - set(known):
            raise ModelError(f"{fields.path}: layer_types is not a list of {layers} known kinds")
        return tuple(known[kind] for kind in kinds)
    if fields.find("sliding_window") is None:
        return (False,) * layers
    if architecture == "gemma3":
        period = fields.integer("sliding_window_pattern", "_sliding_window_pattern")
        return tuple((layer + 1) % max(period, 1) != 0 for layer in range(layers))
    if architecture == "llama":
        return (fields.values.get("model_type") == "mistral",) * layers
    if not fields.flag("use_sliding_window", False):
        return (False,) * layers
    first = fields.integer("max_window_layers", default=28)
    return tuple(layer >= first for layer in range(layers))


def _moe_layers(fields: Fields, layers: int) -> tuple[bool, ...]:
    """Every `decoder_sparse_step`-th layer has experts, unless it is listed as not having any."""
    dense = fields.find("mlp_only_layers", default=[])
    step = fields.integer("decoder_sparse_step", default=1)
    if not isinstance(dense, list) or step < 1:
        raise ModelError(f"{fields.path}: mlp_only_layers or decoder_sparse_step makes no sense")
    flags = tuple(layer not in dense and (layer + 1) % step == 0 for layer in range(layers))
    return () if all(flags) else flags


def _rope(fields: Fields, gemma: bool) -> tuple[float, RopeScaling | None, float | None]:
    """Base, scaling, and the sliding layers' base, from either version's fields."""
    rope = fields.inner("rope_parameters")
    local = None
    if gemma:
        local = fields.number("rope_local_base_freq")
        if "full_attention" in rope.values:
            local = rope.inner("sliding_attention").number("rope_theta", default=local)
            rope = rope.inner("full_attention")
    theta = rope.number("rope_theta", default=fields.number("rope_theta", default=1e4))
    if not rope.values:
        rope = fields.inner("rope_scaling")
    return theta, _scaling(rope, fields.integer("max_position_embeddings")), local


def _scaling(rope: Fields, max_position: int) -> RopeScaling | None:
    kind = rope.find("rope_type", "type", default="default")
    if kind == "default":
        return None
    if kind not in ("linear", "llama3", "yarn"):
        raise ModelError(f"{rope.path}: rope scaling {kind!r} is not supported")
    optional = {
        name: rope.number(name)
        for name in ("attention_factor", "mscale", "mscale_all_dim")
        if rope.find(name) is not None
    }
    original = rope.integer("original_max_position_embeddings", default=max_position)
    return RopeScaling(
        kind=kind,
        factor=rope.number("factor"),
        original_max_position=original,
        low_freq_factor=rope.number("low_freq_factor", default=1.0),
        high_freq_factor=rope.number("high_freq_factor", default=4.0),
        beta_fast=rope.number("beta_fast", default=32.0),
        beta_slow=rope.number("beta_slow", default=1.0),
        truncate=rope.flag("truncate", True),
        **optional,
    )
