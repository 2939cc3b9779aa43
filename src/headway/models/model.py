"""What every model is to the runner: a forward pass over a step, and a head over some rows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from headway.checkpoint.config import ModelConfig
from headway.models.weights import Weights
from headway.ops import Batch, Cache, Matrix, Ops


class Body(Protocol):
    """A family's layers, the final norm included."""

    def forward(self, ops: Ops, x: Tensor, cache: Cache, batch: Batch) -> Tensor:
        """Embedded tokens [T, H] to normalised hidden states [T, H]."""
        ...


Recipe = Callable[[ModelConfig, Weights, Ops, int], Body]
"""Loads a family's body: config, weights, backend, longest sequence."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """One loaded model on one backend."""

    config: ModelConfig
    ops: Ops
    table: Tensor
    """Embeddings [vocabulary, H]."""
    body: Body
    head: Matrix

    @property
    def windows(self) -> tuple[int | None, ...]:
        """The sliding windows that occur among the layers, None for full attention."""
        layers = range(self.config.num_layers)
        return tuple(dict.fromkeys(self.config.window(layer) for layer in layers))

    def forward(self, batch: Batch, cache: Cache) -> Tensor:
        """Hidden states [T, H] of a step; its keys and values are stored in the cache."""
        x = self.ops.embed(batch.tokens, self.table, self.config.embedding_scale)
        return self.body.forward(self.ops, x, cache, batch)

    def logits(self, hidden: Tensor) -> Tensor:
        """Scores [rows, vocabulary], in the backend's type, of hidden states [rows, H]."""
        scores = self.ops.linear(hidden, self.head)
        cap = self.config.final_softcap
        return scores if cap is None else (scores.float() / cap).tanh() * cap
