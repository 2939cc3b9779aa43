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
class Place:
    """The value that the word at `index` of the record gives: rows of `width` elements."""

    index: int
    width: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Embed:
    table: Table
    scale: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Norm:
    x: Place
    weight: Vector
    eps: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Add:
    x: Place
    y: Place


@dataclass(frozen=True, slots=True, kw_only=True)
class Linear:
    x: Place
    matrix: Matrix


@dataclass(frozen=True, slots=True, kw_only=True)
class Attention:
    qkv: Place
    spec: AttentionSpec


@dataclass(frozen=True, slots=True, kw_only=True)
class Gate:
    x: Place
    activation: Activation


@dataclass(frozen=True, slots=True, kw_only=True)
class Experts:
    x: Place
    scores: Place
    gate_up: tuple[Matrix, ...]
    down: tuple[Matrix, ...]
    chosen: int
    normalise: bool
    activation: Activation


@dataclass(frozen=True, slots=True, kw_only=True)
class Head:
    hidden: Place
    matrix: Matrix
    softcap: float | None


Word = Embed | Norm | Add | Linear | Attention | Gate | Experts | Head


def read_by(word: Word) -> tuple[Place, ...]:
    """The values that a word reads."""
    match word:
        case Embed():
            return ()
        case Norm(x=x) | Linear(x=x) | Gate(x=x):
            return (x,)
        case Add(x=x, y=y):
            return (x, y)
        case Attention(qkv=qkv):
            return (qkv,)
        case Experts(x=x, scores=scores):
            return (x, scores)
        case Head(hidden=hidden):
            return (hidden,)


class Recorder:
    """`Ops[Place]`; raises `ModelError` where widths do not fit together."""

    def __init__(self) -> None:
        self.words: list[Word] = []

    def embed(self, table: Table, scale: float) -> Place:
        return self._note(Embed(table=table, scale=scale), table.width)

    def norm(self, x: Place, weight: Vector, eps: float) -> Place:
        _same("a norm's weight", weight.size, x.width)
        return self._note(Norm(x=x, weight=weight, eps=eps), x.width)

    def add(self, x: Place, y: Place) -> Place:
        _same("a sum", x.width, y.width)
        return self._note(Add(x=x, y=y), x.width)

    def linear(self, x: Place, matrix: Matrix) -> Place:
        _same("a matrix", matrix.inputs, x.width)
        return self._note(Linear(x=x, matrix=matrix), matrix.outputs)

    def attention(self, qkv: Place, spec: AttentionSpec) -> Place:
        _same("attention", (spec.heads + 2 * spec.kv_heads) * spec.head_dim, qkv.width)
        return self._note(Attention(qkv=qkv, spec=spec), spec.heads * spec.head_dim)

    def gate(self, x: Place, activation: Activation) -> Place:
        return self._note(Gate(x=x, activation=activation), x.width // 2)

    def experts(
        self,
        x: Place,
        scores: Place,
        gate_up: Sequence[Matrix],
        down: Sequence[Matrix],
        *,
        chosen: int,
        normalise: bool,
        activation: Activation,
    ) -> Place:
        _same("a router", scores.width, len(gate_up))
        _same("experts", len(gate_up), len(down))
        for first, second in zip(gate_up, down, strict=True):
            _same("an expert's gate and up", first.inputs, x.width)
            _same("an expert's down", second.inputs, first.outputs // 2)
        word = Experts(
            x=x,
            scores=scores,
            gate_up=tuple(gate_up),
            down=tuple(down),
            chosen=chosen,
            normalise=normalise,
            activation=activation,
        )
        return self._note(word, down[0].outputs)

    def head(self, hidden: Place, matrix: Matrix, softcap: float | None) -> Place:
        _same("the head", matrix.inputs, hidden.width)
        return self._note(Head(hidden=hidden, matrix=matrix, softcap=softcap), matrix.outputs)

    def _note(self, word: Word, width: int) -> Place:
        self.words.append(word)
        return Place(index=len(self.words) - 1, width=width)


def _same(what: str, given: int, width: int) -> None:
    if given != width:
        raise ModelError(f"{what} of width {given} meets rows of width {width}")
