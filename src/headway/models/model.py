"""What every model is to a runner: a forward pass over a step, and a head over some rows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from headway.ops import Matrix, Ops, Table, Weights, X
from headway.types.model import ModelConfig


class Backbone(Protocol):
    """A family's layers, the final norm included."""

    def forward(self, ops: Ops[X], x: X) -> X:
        """Embedded tokens [T, H] to normalised hidden states [T, H]."""
        ...


ModelBuilder = Callable[[ModelConfig, Weights, int], Backbone]
"""Loads a family's body: config, a backend's weights, longest sequence."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """One model: its numbers, and handles on weights that a backend holds."""

    config: ModelConfig
    table: Table
    body: Backbone
    head: Matrix

    @property
    def windows(self) -> tuple[int | None, ...]:
        """The sliding windows that occur among the layers, None for full attention."""
        layers = range(self.config.num_layers)
        return tuple(dict.fromkeys(self.config.window(layer) for layer in layers))

    def forward(self, ops: Ops[X]) -> X:
        """Hidden states [T, H] of a step; its keys and values are stored in the cache."""
        return self.body.forward(ops, ops.embed(self.table, self.config.embedding_scale))

    def logits(self, ops: Ops[X], hidden: X) -> X:
        """Scores [rows, vocabulary] of hidden states [rows, H]."""
        return ops.head(hidden, self.head, self.config.final_softcap)
