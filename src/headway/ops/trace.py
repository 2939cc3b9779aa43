"""Writes down what a recipe says, word by word, instead of computing it.

The values that pass between words are places in the record, each with the width of its rows.
Nothing is decided here: see `lower`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from headway.errors import ModelError
from headway.ops.protocol import AttentionSpec, Matrix, Table, Vector
from headway.types.model import Activation


@dataclass(frozen=True, slots=True, kw_only=True)
class Value:
    """The value that the word at `index` of the record gives: rows of `width` elements."""

    index: int
    width: int


@dataclass(frozen=True, slots=True, kw_only=True)
class EmbedOp:
    table: Table
    scale: float


@dataclass(frozen=True, slots=True, kw_only=True)
class NormOp:
    x: Value
    weight: Vector
    eps: float


@dataclass(frozen=True, slots=True, kw_only=True)
class AddOp:
    x: Value
    y: Value


@dataclass(frozen=True, slots=True, kw_only=True)
class LinearOp:
    x: Value
    matrix: Matrix


@dataclass(frozen=True, slots=True, kw_only=True)
class AttentionOp:
    qkv: Value
    spec: AttentionSpec


@dataclass(frozen=True, slots=True, kw_only=True)
class GateOp:
    x: Value
    activation: Activation


@dataclass(frozen=True, slots=True, kw_only=True)
class ExpertsOp:
    x: Value
    scores: Value
    gate_up: tuple[Matrix, ...]
    down: tuple[Matrix, ...]
    chosen: int
    normalise: bool
    activation: Activation


@dataclass(frozen=True, slots=True, kw_only=True)
class LmHeadOp:
    hidden: Value
    matrix: Matrix
    softcap: float | None


Op = EmbedOp | NormOp | AddOp | LinearOp | AttentionOp | GateOp | ExpertsOp | LmHeadOp


def read_by(word: Op) -> tuple[Value, ...]:
    """The values that a word reads."""
    match word:
        case EmbedOp():
            return ()
        case NormOp(x=x) | LinearOp(x=x) | GateOp(x=x):
            return (x,)
        case AddOp(x=x, y=y):
            return (x, y)
        case AttentionOp(qkv=qkv):
            return (qkv,)
        case ExpertsOp(x=x, scores=scores):
            return (x, scores)
        case LmHeadOp(hidden=hidden):
            return (hidden,)


class Tracer:
    """`Ops[Place]`; raises `ModelError` where widths do not fit together."""

    def __init__(self) -> None:
        self.words: list[Op] = []

    def embed(self, table: Table, scale: float) -> Value:
        return self._note(EmbedOp(table=table, scale=scale), table.width)

    def norm(self, x: Value, weight: Vector, eps: float) -> Value:
        _same("a norm's weight", weight.size, x.width)
        return self._note(NormOp(x=x, weight=weight, eps=eps), x.width)

    def add(self, x: Value, y: Value) -> Value:
        _same("a sum", x.width, y.width)
        return self._note(AddOp(x=x, y=y), x.width)

    def linear(self, x: Value, matrix: Matrix) -> Value:
        _same("a matrix", matrix.inputs, x.width)
        return self._note(LinearOp(x=x, matrix=matrix), matrix.outputs)

    def attention(self, qkv: Value, spec: AttentionSpec) -> Value:
        _same("attention", (spec.heads + 2 * spec.kv_heads) * spec.head_dim, qkv.width)
        return self._note(AttentionOp(qkv=qkv, spec=spec), spec.heads * spec.head_dim)

    def gate(self, x: Value, activation: Activation) -> Value:
        return self._note(GateOp(x=x, activation=activation), x.width // 2)

    def experts(
        self,
        x: Value,
        scores: Value,
        gate_up: Sequence[Matrix],
        down: Sequence[Matrix],
        *,
        chosen: int,
        normalise: bool,
        activation: Activation,
    ) -> Value:
        _same("a router", scores.width, len(gate_up))
        _same("experts", len(gate_up), len(down))
        for first, second in zip(gate_up, down, strict=True):
            _same("an expert's gate and up", first.inputs, x.width)
            _same("an expert's down", second.inputs, first.outputs // 2)
        word = ExpertsOp(
            x=x,
            scores=scores,
            gate_up=tuple(gate_up),
            down=tuple(down),
            chosen=chosen,
            normalise=normalise,
            activation=activation,
        )
        return self._note(word, down[0].outputs)

    def head(self, hidden: Value, matrix: Matrix, softcap: float | None) -> Value:
        _same("the head", matrix.inputs, hidden.width)
        return self._note(LmHeadOp(hidden=hidden, matrix=matrix, softcap=softcap), matrix.outputs)

    def _note(self, word: Op, width: int) -> Value:
        self.words.append(word)
        return Value(index=len(self.words) - 1, width=width)


def _same(what: str, given: int, width: int) -> None:
    if given != width:
        raise ModelError(f"{what} of width {given} meets rows of width {width}")
