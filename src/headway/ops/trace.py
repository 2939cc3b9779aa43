"""Records the operations of a model in order, instead of computing them.

A `Tracer` is passed to a model as its `Ops`. Each call appends an `Op` (which operation, on which
values, with which weights) to `Tracer.ops` and returns a `Value`, which stands for the result. A
model does not branch on data, so one trace holds for every step, whatever its number of tokens.
Nothing is decided here but that widths fit; `headway.ops.native.lower` makes a program of the
trace.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from headway.errors import ModelError
from headway.ops.protocol import AttentionSpec, Matrix, Table, Vector
from headway.types.model import Activation


@dataclass(frozen=True, slots=True, kw_only=True)
class Value:
    """The result of the op at `index` of the trace: a row of `width` elements for each token."""

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
    router_logits: Value
    gate_up: tuple[Matrix, ...]
    down: tuple[Matrix, ...]
    top_k: int
    normalise: bool
    activation: Activation


@dataclass(frozen=True, slots=True, kw_only=True)
class LmHeadOp:
    hidden: Value
    matrix: Matrix
    softcap: float | None


Op = EmbedOp | NormOp | AddOp | LinearOp | AttentionOp | GateOp | ExpertsOp | LmHeadOp


def inputs_of(op: Op) -> tuple[Value, ...]:
    """The values that an op reads."""
    match op:
        case EmbedOp():
            return ()
        case NormOp(x=x) | LinearOp(x=x) | GateOp(x=x):
            return (x,)
        case AddOp(x=x, y=y):
            return (x, y)
        case AttentionOp(qkv=qkv):
            return (qkv,)
        case ExpertsOp(x=x, router_logits=router_logits):
            return (x, router_logits)
        case LmHeadOp(hidden=hidden):
            return (hidden,)


class Tracer:
    """`Ops[Value]` that records; raises `ModelError` where widths do not fit together."""

    def __init__(self) -> None:
        self.ops: list[Op] = []

    def embed(self, table: Table, scale: float) -> Value:
        return self._record(EmbedOp(table=table, scale=scale), table.width)

    def norm(self, x: Value, weight: Vector, eps: float) -> Value:
        _same("a norm's weight", weight.size, x.width)
        return self._record(NormOp(x=x, weight=weight, eps=eps), x.width)

    def add(self, x: Value, y: Value) -> Value:
        _same("a sum", x.width, y.width)
        return self._record(AddOp(x=x, y=y), x.width)

    def linear(self, x: Value, matrix: Matrix) -> Value:
        _same("a matrix", matrix.inputs, x.width)
        return self._record(LinearOp(x=x, matrix=matrix), matrix.outputs)

    def attention(self, qkv: Value, spec: AttentionSpec) -> Value:
        _same("attention", (spec.heads + 2 * spec.kv_heads) * spec.head_dim, qkv.width)
        return self._record(AttentionOp(qkv=qkv, spec=spec), spec.heads * spec.head_dim)

    def gate(self, x: Value, activation: Activation) -> Value:
        return self._record(GateOp(x=x, activation=activation), x.width // 2)

    def experts(
        self,
        x: Value,
        router_logits: Value,
        gate_up: Sequence[Matrix],
        down: Sequence[Matrix],
        *,
        top_k: int,
        normalise: bool,
        activation: Activation,
    ) -> Value:
        _same("a router", router_logits.width, len(gate_up))
        _same("experts", len(gate_up), len(down))
        for first, second in zip(gate_up, down, strict=True):
            _same("an expert's gate and up", first.inputs, x.width)
            _same("an expert's down", second.inputs, first.outputs // 2)
        op = ExpertsOp(
            x=x,
            router_logits=router_logits,
            gate_up=tuple(gate_up),
            down=tuple(down),
            top_k=top_k,
            normalise=normalise,
            activation=activation,
        )
        return self._record(op, down[0].outputs)

    def lm_head(self, hidden: Value, matrix: Matrix, softcap: float | None) -> Value:
        _same("the lm_head", matrix.inputs, hidden.width)
        return self._record(LmHeadOp(hidden=hidden, matrix=matrix, softcap=softcap), matrix.outputs)

    def _record(self, op: Op, width: int) -> Value:
        self.ops.append(op)
        return Value(index=len(self.ops) - 1, width=width)


def _same(what: str, given: int, width: int) -> None:
    if given != width:
        raise ModelError(f"{what} of width {given} meets rows of width {width}")
