"""Model families: a recipe each, and the parts they share.

A new family is a recipe in a file of its own and a line in `FAMILIES`. Models are written in the
words of `headway.ops` and know neither requests nor batches, nor what computes them.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from headway.errors import ModelError
from headway.models.gemma3 import gemma3
from headway.models.llama import llama
from headway.models.model import Backbone, Model, ModelBuilder
from headway.models.qwen import qwen2, qwen3, qwen3_moe
from headway.ops import Weights
from headway.types.model import Architecture, ModelConfig

__all__ = ["FAMILIES", "Backbone", "Model", "load_model"]

FAMILIES: Mapping[Architecture, ModelBuilder] = MappingProxyType(
    {
        "llama": llama,
        "qwen2": qwen2,
        "qwen3": qwen3,
        "qwen3_moe": qwen3_moe,
        "gemma3": gemma3,
    }
)


def load_model(config: ModelConfig, weights: Weights, *, length: int) -> Model:
    """Load a model for sequences of up to `length` tokens; raises `ModelError` where it cannot."""
    if config.attention_softcap is not None:
        raise ModelError(
            "attention with a softcap is not supported", field="attn_logit_softcapping"
        )
    return Model(
        config=config,
        table=weights.table("embed"),
        body=FAMILIES[config.architecture](config, weights, length),
        head=weights.matrix("embed" if config.tie_embeddings else "head"),
    )
