"""Lowers a trace: from a model's ops to a `Program` of kernel calls over row buffers.

A value of the trace becomes a buffer with one row for each token. Rows that meet a matrix must be
in the matrix's own format (float32, bfloat16, or int8 with scales): a norm writes that format
itself, other values are converted. Two things are fused, since each saves a pass over memory:

- A product, norm or mixture of experts that is only added to another value adds itself in place
  there (`Epilogue.ADD`).
- A product that is only gated gates itself (`Epilogue.GATE`).

What the kernels cannot do (a matrix with gate and up rows in turns but no gate after it, a sum of
two values that are both needed later) is an error, never a silent detour.
"""

from __future__ import annotations

from collections.abc import Sequence

from headway.errors import ModelError
from headway.native.abi import Activation, Epilogue, HwKind, HwWeightFormat
from headway.ops.native.program import BufferSpec, Instruction, Program, share_buffers
from headway.ops.native.weights import PackedMatrix
from headway.ops.protocol import Matrix
from headway.ops.trace import (
    AddOp,
    AttentionOp,
    EmbedOp,
    ExpertsOp,
    GateOp,
    LinearOp,
    LmHeadOp,
    NormOp,
    Op,
    Value,
    inputs_of,
)

_ACTIVATIONS = {"silu": Activation.SILU, "gelu_tanh": Activation.GELU_TANH}


def lower(ops: Sequence[Op], matrices: Sequence[PackedMatrix]) -> Program:
    """The program of a trace, its buffers shared; `matrices` say in which format weights lie.

    Raises `ModelError` where the kernels cannot compute it, or its last op is not `lm_head`.
    """
    if not ops or not isinstance(ops[-1], LmHeadOp):
        raise ModelError("a traced model must end with its lm_head")
    lowering = _Lowering(ops, matrices)
    for index in range(len(ops)):
        lowering.lower(index)
    return share_buffers(
        Program(instructions=tuple(lowering.instructions), buffers=tuple(lowering.buffers))
    )


class _Lowering:
    """Walks over the ops; every value gets buffers of its own here, which are shared later."""

    def __init__(self, ops: Sequence[Op], matrices: Sequence[PackedMatrix]) -> None:
        self.instructions: list[Instruction] = []
        self.buffers: list[BufferSpec] = []
        self._ops = ops
        self._matrices = matrices
        self._users: list[list[int]] = [[] for _ in ops]
        for index, op in enumerate(ops):
            for value in inputs_of(op):
                self._users[value.index].append(index)
        self._fused_into: dict[int, int] = {}
        """Ops that another one, a gate or a sum, computes along with itself: index to index."""
        for index, op in enumerate(ops):
            if isinstance(op, GateOp):
                self._fuse_gate(index, op)
            elif isinstance(op, AddOp):
                self._fuse_add(index, op)
        self._buffer_of: dict[tuple[int, HwWeightFormat], int] = {}
        """The buffer that holds a value, by the value's index and the format of its rows."""

    def lower(self, index: int) -> None:
        """Emit the instructions of one op, unless another op includes it."""
        if index in self._fused_into:
            return
        op = self._ops[index]
        match op:
            case EmbedOp():
                out = self._new_buffer(index, HwWeightFormat.FLOAT32, op.table.width)
                self._emit(
                    Instruction(kind=HwKind.EMBED, out=out, matrix=op.table.index, scale=op.scale)
                )
            case NormOp():
                self._norm(index, op)
            case AddOp():
                self._add(index, op)
            case LinearOp():
                self._refuse_gate_up(op.matrix)
                out = self._new_buffer(index, HwWeightFormat.FLOAT32, op.matrix.outputs)
                self._emit_fusable(op, out, Epilogue.STORE)
            case GateOp():
                self._gate(index, op)
            case AttentionOp():
                self._attention(index, op)
            case ExpertsOp():
                out = self._new_buffer(index, HwWeightFormat.FLOAT32, op.down[0].outputs)
                self._emit_fusable(op, out, Epilogue.STORE)
            case LmHeadOp():
                source = self._in_format(op.hidden, self._format(op.matrix))
                cap = op.softcap or 0.0
                self._emit(
                    Instruction(
                        kind=HwKind.LM_HEAD, source=source, matrix=op.matrix.index, softcap=cap
                    )
                )

    def _fuse_gate(self, index: int, op: GateOp) -> None:
        product = self._ops[op.x.index]
        fusable = isinstance(product, LinearOp) and self._matrices[product.matrix.index].is_gate_up
        if not fusable or self._users[op.x.index] != [index]:
            raise ModelError("only the product with a gate_up matrix can be gated")
        self._fused_into[op.x.index] = index

    def _fuse_add(self, index: int, op: AddOp) -> None:
        for part in (op.y, op.x):
            fusable = isinstance(self._ops[part.index], LinearOp | NormOp | ExpertsOp)
            if fusable and self._users[part.index] == [index]:
                self._fused_into[part.index] = index
                return
        raise ModelError("a sum needs a product, a norm or experts that nothing else uses")

    def _norm(self, index: int, op: NormOp) -> None:
        packed = sorted(self._needed(index) - {HwWeightFormat.FLOAT32})
        unpacked = HwWeightFormat.FLOAT32 in self._needed(index) or len(packed) != 1
        size = op.x.width
        outs = [self._new_buffer(index, row_format, size) for row_format in packed[:1]]
        if unpacked:
            outs.append(self._new_buffer(index, HwWeightFormat.FLOAT32, size))
        self._emit(
            Instruction(
                kind=HwKind.NORM,
                source=self._in_format(op.x, HwWeightFormat.FLOAT32),
                out=outs[0],
                out2=outs[1] if len(outs) > 1 else -1,
                weight=op.weight,
                eps=op.eps,
            )
        )

    def _add(self, index: int, op: AddOp) -> None:
        base, part = op.x, op.y
        if self._fused_into.get(part.index) != index:
            base, part = part, base
        added = self._ops[part.index]
        target = self._in_format(base, HwWeightFormat.FLOAT32)
        if self._needed_after(base, index) or (
            isinstance(added, LinearOp | ExpertsOp) and base in inputs_of(added)
        ):
            copy = self._buffer(HwWeightFormat.FLOAT32, base.width)
            self._emit(Instruction(kind=HwKind.CONVERT, source=target, out=copy))
            target = copy
        self._emit_fusable(added, target, Epilogue.ADD)
        self._buffer_of[index, HwWeightFormat.FLOAT32] = target

    def _emit_fusable(self, op: Op, out: int, epilogue: Epilogue) -> None:
        """A product, norm or mixture of experts that stores to `out` or adds to what is there."""
        match op:
            case LinearOp(x=x, matrix=matrix):
                self._refuse_gate_up(matrix)
                self._emit(
                    Instruction(
                        kind=HwKind.LINEAR,
                        source=self._in_format(x, self._format(matrix)),
                        out=out,
                        matrix=matrix.index,
                        epilogue=epilogue,
                    )
                )
            case NormOp(x=x, weight=weight, eps=eps):
                self._emit(
                    Instruction(
                        kind=HwKind.NORM,
                        source=self._in_format(x, HwWeightFormat.FLOAT32),
                        out=out,
                        weight=weight,
                        eps=eps,
                        epilogue=epilogue,
                    )
                )
            case ExpertsOp(x=x, router_logits=router_logits):
                self._emit(
                    Instruction(
                        kind=HwKind.EXPERTS,
                        source=self._in_format(x, HwWeightFormat.FLOAT32),
                        source2=self._in_format(router_logits, HwWeightFormat.FLOAT32),
                        out=out,
                        matrix=_first(op.gate_up),
                        matrix2=_first(op.down),
                        experts=len(op.gate_up),
                        top_k=op.top_k,
                        normalise=op.normalise,
                        activation=_ACTIVATIONS[op.activation],
                        epilogue=epilogue,
                    )
                )

    def _gate(self, index: int, op: GateOp) -> None:
        product = self._ops[op.x.index]
        assert isinstance(product, LinearOp)
        self._emit(
            Instruction(
                kind=HwKind.LINEAR,
                source=self._in_format(product.x, self._format(product.matrix)),
                out=self._new_buffer(index, HwWeightFormat.FLOAT32, product.matrix.outputs // 2),
                matrix=product.matrix.index,
                epilogue=Epilogue.GATE,
                activation=_ACTIVATIONS[op.activation],
            )
        )

    def _attention(self, index: int, op: AttentionOp) -> None:
        spec = op.spec
        width = spec.heads * spec.head_dim
        queries = self._buffer(HwWeightFormat.FLOAT32, width)
        source = self._in_format(op.qkv, HwWeightFormat.FLOAT32)
        self._emit(
            Instruction(kind=HwKind.ROPE, source=source, out=queries, spec=spec, eps=spec.eps)
        )
        out = self._new_buffer(index, HwWeightFormat.FLOAT32, width)
        self._emit(
            Instruction(kind=HwKind.ATTENTION, source=queries, out=out, spec=spec, scale=spec.scale)
        )

    def _refuse_gate_up(self, matrix: Matrix) -> None:
        packed = self._matrices[matrix.index]
        if packed.is_gate_up:
            raise ModelError(f"{packed.name}: a gate_up matrix is only good for a gate")

    def _needed(self, index: int) -> set[HwWeightFormat]:
        """The formats in which a value's users want its rows."""
        found = set()
        for user in self._users[index]:
            op = self._ops[user]
            if isinstance(op, LinearOp | LmHeadOp):
                found.add(self._format(op.matrix))
            else:
                found.add(HwWeightFormat.FLOAT32)
        return found

    def _needed_after(self, value: Value, index: int) -> bool:
        """Whether an op that is emitted after this one still reads a value."""
        users = (self._fused_into.get(user, user) for user in self._users[value.index])
        return any(user > index for user in users)

    def _format(self, matrix: Matrix) -> HwWeightFormat:
        return self._matrices[matrix.index].format

    def _in_format(self, value: Value, row_format: HwWeightFormat) -> int:
        """The buffer with a value's rows in a format, converted to it where they must be."""
        found = self._buffer_of.get((value.index, row_format))
        if found is None:
            source = self._buffer_of[value.index, HwWeightFormat.FLOAT32]
            found = self._new_buffer(value.index, row_format, value.width)
            self._emit(Instruction(kind=HwKind.CONVERT, source=source, out=found))
        return found

    def _new_buffer(self, index: int, row_format: HwWeightFormat, width: int) -> int:
        self._buffer_of[index, row_format] = buffer = self._buffer(row_format, width)
        return buffer

    def _buffer(self, row_format: HwWeightFormat, width: int) -> int:
        self.buffers.append(BufferSpec(format=row_format, width=width))
        return len(self.buffers) - 1

    def _emit(self, instruction: Instruction) -> None:
        self.instructions.append(instruction)


def _first(matrices: Sequence[Matrix]) -> int:
    """The number of the first of some matrices that are numbered one after the other."""
    first = matrices[0].index
    if [matrix.index for matrix in matrices] != list(range(first, first + len(matrices))):
        raise ModelError("the matrices of experts must be one stack")
    return first
