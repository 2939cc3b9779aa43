"""Models: what a runner computes with, `Model`, and `load_model`, which builds one of any family.

A model is written once, in the operations of `headway.ops.Ops`, and holds handles on weights
(numbers that a backend gave out), never tensors. So the same model runs on every backend: eagerly
in PyTorch, or traced once into a program of the native kernels. A new family is a builder in a file
of its own and a line in `FAMILIES`. Models know neither requests nor batches, nor what computes
them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Protocol

from headway.errors import ModelError
from headway.models.gemma3 import gemma3
from headway.models.llama import llama
from headway.models.qwen import qwen2, qwen3, qwen3_moe
from headway.ops import Matrix, Ops, Table, Weights, X
from headway.types.model import Architecture, ModelConfig


class Backbone(Protocol):
    """A family's decoder layers and the final norm: all between embedding and logits."""

    def forward(self, ops: Ops[X], x: X) -> X:
        """Embedded tokens [T, H] to normalised hidden states [T, H]."""
        ...


ModelBuilder = Callable[[ModelConfig, Weights, int], Backbone]
"""Builds a family's backbone from the config, a backend's weights and the longest sequence."""

FAMILIES: Mapping[Architecture, ModelBuilder] = MappingProxyType(
    {
        "llama": llama,
        "qwen2": qwen2,
        "qwen3": qwen3,
        "qwen3_moe": qwen3_moe,
        "gemma3": gemma3,
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """A decoder-only language model: embedding, backbone, language-model head."""

    config: ModelConfig
    embedding: Table
    backbone: Backbone
    lm_head: Matrix

    @property
    def windows(self) -> tuple[int | None, ...]:
        """The sliding windows that occur among the layers, None for full attention."""
        layers = range(self.config.num_layers)
        return tuple(dict.fromkeys(self.config.window(layer) for layer in layers))

    def forward(self, ops: Ops[X]) -> X:
        """Hidden states [T, H] of a step's tokens; their keys and values go into the KV cache."""
        x = ops.embed(self.embedding, self.config.embedding_scale)
        return self.backbone.forward(ops, x)

    def logits(self, ops: Ops[X], hidden: X) -> X:
        """Logits [rows, vocabulary] of hidden states [rows, H]."""
        return ops.lm_head(hidden, self.lm_head, self.config.final_softcap)


def load_model(config: ModelConfig, weights: Weights, *, length: int) -> Model:
    """Load a model for sequences of up to `length` tokens; raises `ModelError` where it cannot."""
    if config.attention_softcap is not None:
        raise ModelError(
            "attention with a softcap is not supported", field="attn_logit_softcapping"
        )
    return Model(
        config=config,
        embedding=weights.table("embed"),
        backbone=FAMILIES[config.architecture](config, weights, length),
        lm_head=weights.matrix("embed" if config.tie_embeddings else "head"),
    )
