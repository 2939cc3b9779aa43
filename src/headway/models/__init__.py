"""Model families: a recipe each, and the parts they share.

A new family is a recipe in a file of its own and a line in `FAMILIES`. Models compute in the words
of `headway.ops` and know neither requests nor how they are batched.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

from headway.checkpoint.config import Architecture, ModelConfig
from headway.errors import ModelError
from headway.models.gemma3 import gemma3
from headway.models.llama import llama
from headway.models.model import Body, Model, Recipe
from headway.models.qwen import qwen2, qwen3, qwen3_moe
from headway.models.weights import Weights
from headway.ops import Ops

__all__ = ["FAMILIES", "Body", "Model", "load_model"]

FAMILIES: Mapping[Architecture, Recipe] = MappingProxyType(
    {
        "llama": llama,
        "qwen2": qwen2,
        "qwen3": qwen3,
        "qwen3_moe": qwen3_moe,
        "gemma3": gemma3,
    }
)


def load_model(config: ModelConfig, weights_file: Path, ops: Ops, *, length: int) -> Model:
    """Load a model for sequences of up to `length` tokens; raises `ModelError` where it cannot."""
    if config.attention_softcap is not None:
        raise ModelError(
            "attention with a softcap is not supported", field="attn_logit_softcapping"
        )
    weights = Weights(weights_file, ops)
    table = weights.tensor("embed.weight")
    return Model(
        config=config,
        ops=ops,
        table=table,
        body=FAMILIES[config.architecture](config, weights, ops, length),
        head=ops.pack(table) if config.tie_embeddings else weights.matrix("head"),
    )
