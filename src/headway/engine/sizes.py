"""The sizes of a model that `headway.steptime` predicts a step's time from.

They follow from its dimensions and from how the backends store weights and KV cache.
"""

from __future__ import annotations

from headway.checkpoint import ModelConfig
from headway.checkpoint.storage import PANEL_ROWS, WEIGHT_FORMATS, panel_bytes
from headway.steptime.architecture import Architecture, model_sizes
from headway.steptime.shape import ModelSizes

_PLAIN_BITS = {"float32": 32.0, "bfloat16": 16.0, "float16": 16.0}
_CACHE_BYTES = {"float32": 4.0, "bfloat16": 2.0, "float16": 2.0, "int8": 1.0}
_SCALE_BYTES = 4
"""An int8 cache keeps one for each head's key and for its value, at every position."""
_LEAST_LENGTH = 64


def architecture_of(model: ModelConfig) -> Architecture:
    """A model's dimensions, as `headway.steptime` counts them."""
    layers = range(model.num_layers)
    window_layers = sum(model.window(layer) is not None for layer in layers)
    return Architecture(
        hidden=model.hidden_size,
        layers=model.num_layers,
        heads=model.num_heads,
        kv_heads=model.num_kv_heads,
        head_dim=model.head_dim,
        intermediate=model.intermediate_size,
        vocab=model.vocab_size,
        tied=model.tie_embeddings,
        window=model.sliding_window if window_layers else None,
        window_layers=window_layers,
        experts=model.num_experts,
        experts_per_token=model.num_experts_per_token,
        expert_intermediate=model.moe_intermediate_size,
        expert_layers=sum(model.is_moe(layer) for layer in layers),
    )


def sizes_of(
    model: ModelConfig, *, dtype: str, kv_cache_dtype: str, weight_bytes: int | None = None
) -> ModelSizes:
    """The sizes of a model in one form, with one format of KV cache.

    `weight_bytes` is what the prepared weights take on disk: a form that keeps some matrices in
    another one is then counted as it is.
    """
    scales = _SCALE_BYTES / model.head_dim if kv_cache_dtype == "int8" else 0.0
    return model_sizes(
        architecture_of(model),
        name=model.name,
        weight_bits=weight_bits(dtype),
        # Four bits are too few for the head; see `headway.checkpoint.convert`.
        head_bits=weight_bits("int8" if dtype == "int4" else dtype),
        kv_bytes_per_element=_CACHE_BYTES[kv_cache_dtype] + scales,
        weight_bytes=weight_bytes,
    )


def weight_bits(dtype: str) -> float:
    """Bits that a weight takes in a form, scales included."""
    if dtype in _PLAIN_BITS:
        return _PLAIN_BITS[dtype]
    form = next(form for form in WEIGHT_FORMATS if form == dtype)
    return panel_bytes(form, _LEAST_LENGTH) * 8 / (PANEL_ROWS * _LEAST_LENGTH)
