"""The operations that models are written in (`Ops`), and the weights that they read (`Weights`).

A model says what is computed without branching on data, over values of which it knows nothing (X).
So a backend may compute an operation at once (X is a tensor), or record a model's operations once
and replay them for every step (X is a `headway.ops.trace.Value`). T is the number of tokens in the
step (all sequences' new tokens, one after the other), H the hidden size. Nothing here knows how
anything is computed, or in which number format.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

import numpy as np
import numpy.typing as npt

from headway.types.model import Activation

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]
X = TypeVar("X")
"""A backend's value: one row for each token of the step."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Matrix:
    """Handle of a linear layer's weight [outputs, inputs] and bias: its number in the backend."""

    index: int
    outputs: int
    inputs: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """Handle of an embedding table [vocabulary, width]: its number in the backend."""

    index: int
    width: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Vector:
    """Handle of a norm's weight [size]: its number in the backend."""

    index: int
    size: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Rope:
    """Handle of the cosines and sines of all positions: their number in the backend."""

    index: int


@dataclass(frozen=True, slots=True, kw_only=True)
class AttentionSpec:
    """One layer's grouped-query attention over the paged cache, rotary positions included."""

    layer: int
    heads: int
    kv_heads: int
    head_dim: int
    scale: float
    """Factor on the attention scores."""
    window: int | None
    """Positions that a query sees, its own included; None for all before it."""
    rope: Rope
    norms: tuple[Vector, Vector] | None
    """Of each head's queries and keys [head_dim], before the rotation."""
    eps: float
    """Of those norms."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheShape:
    """The KV cache: `num_blocks` blocks of `block_size` positions in each layer."""

    num_layers: int
    num_blocks: int
    block_size: int
    num_kv_heads: int
    head_dim: int

    @property
    def elements_per_block(self) -> int:
        """Of one block over all layers, keys and values together."""
        return 2 * self.num_layers * self.block_size * self.num_kv_heads * self.head_dim


class Weights(Protocol):
    """A model's weights in a backend; a model builder asks for each tensor by its canonical name.

    Raises `ModelError` where a tensor is missing or has not the shape that it should have.
    """

    def table(self, name: str) -> Table:
        """Embeddings `name`.weight, [vocabulary, H]."""
        ...

    def matrix(self, name: str, *, bias: bool = False) -> Matrix:
        """`name`.weight, [outputs, inputs], with `name`.bias [outputs] where it has one."""
        ...

    def stack(self, name: str) -> tuple[Matrix, ...]:
        """`name`.weight, [number, outputs, inputs]: as many matrices."""
        ...

    def vector(self, name: str) -> Vector:
        """`name`.weight, [size], float32."""
        ...

    def rope(self, cos: Floats, sin: Floats) -> Rope:
        """Take in tables of rotary positions, [positions, head_dim] each."""
        ...


class Ops(Protocol[X]):
    """One step on one backend, or any step while a model is traced."""

    def embed(self, table: Table, scale: float) -> X:
        """The rows of the step's tokens [T, H], times `scale` rounded to the backend's type."""
        ...

    def norm(self, x: X, weight: Vector, eps: float) -> X:
        """Root-mean-square norm of each row, computed in float32."""
        ...

    def add(self, x: X, y: X) -> X:
        """Their sum; neither is changed."""
        ...

    def linear(self, x: X, matrix: Matrix) -> X:
        """x [T, inputs] times the matrix: [T, outputs]."""
        ...

    def attention(self, qkv: X, spec: AttentionSpec) -> X:
        """Causal attention of the step's queries over their sequences' stored positions.

        `qkv` [T, (heads + 2 kv heads) * head_dim] holds queries, keys and values. Queries and keys
        are normalised where the spec says so and turned: component i of a head's first half
        together with component i of its second. The keys and values are stored, finite in any
        case, and seen by the queries. Each key-value head serves heads / kv heads neighbouring
        query heads. Returns [T, heads * head_dim].
        """
        ...

    def gate(self, x: X, activation: Activation) -> X:
        """activation(first half) * second half of each row."""
        ...

    def experts(
        self,
        x: X,
        router_logits: X,
        gate_up: Sequence[Matrix],
        down: Sequence[Matrix],
        *,
        top_k: int,
        normalise: bool,
        activation: Activation,
    ) -> X:
        """Mixture of experts: the `top_k` gated MLPs that each token's router logits prefer.

        x [T, H], router_logits [T, experts]; returns [T, H]. An expert's router weight is the
        softmax over all experts; with `normalise`, those of the `top_k` are rescaled to sum to 1.
        """
        ...

    def lm_head(self, hidden: X, matrix: Matrix, softcap: float | None) -> X:
        """Logits [rows, vocabulary] of hidden states, bent into (-softcap, softcap) where given.

        Always a model's last operation; its rows are those of which logits are wanted.
        """
        ...
