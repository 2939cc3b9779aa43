"""From a record of words to operations over row buffers, fused where that saves a pass.

Rows that meet a matrix must be in its form: a norm writes that form itself, other values are
converted. A product, norm or mixture that is only added to another value adds itself in place
there, a product that is only gated gates itself. What the kernels cannot do (an interleaved
matrix without its gate, a sum of two values that are both needed later) is an error, never a
silent detour.
"""

from __future__ import annotations

from collections.abc import Sequence

from headway.errors import ModelError
from headway.native.abi import Activation, Epilogue, HwForm, HwKind
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
    read_by,
)

_ACTIVATIONS = {"silu": Activation.SILU, "gelu_tanh": Activation.GELU_TANH}


def lower(words: Sequence[Op], matrices: Sequence[PackedMatrix]) -> Program:
    """The program of a record whose last word is `head`; `ModelError` where there is none."""
    if not words or not isinstance(words[-1], LmHeadOp):
        raise ModelError("a recorded model must end with its head")
    lowering = _Lowering(words, matrices)
    for index in range(len(words)):
        lowering.lower(index)
    return share_buffers(
        Program(operations=tuple(lowering.operations), buffers=tuple(lowering.buffers))
    )


class _Lowering:
    """Walks over the words; every value gets buffers of its own here, which are shared later."""

    def __init__(self, words: Sequence[Op], matrices: Sequence[PackedMatrix]) -> None:
        self.operations: list[Instruction] = []
        self.buffers: list[BufferSpec] = []
        self._words = words
        self._matrices = matrices
        self._users: list[list[int]] = [[] for _ in words]
        for index, word in enumerate(words):
            for place in read_by(word):
                self._users[place.index].append(index)
        self._within: dict[int, int] = {}
        """Words that another one, a gate or a sum, computes along with itself."""
        for index, word in enumerate(words):
            if isinstance(word, GateOp):
                self._join_gate(index, word)
            elif isinstance(word, AddOp):
                self._join_add(index, word)
        self._held: dict[tuple[int, HwForm], int] = {}
        """Where each value lies, by form."""

    def lower(self, index: int) -> None:
        """Write one word's operations, unless another one does."""
        if index in self._within:
            return
        word = self._words[index]
        match word:
            case EmbedOp():
                out = self._fresh(index, HwForm.FLOAT32, word.table.width)
                self._emit(
                    Instruction(
                        kind=HwKind.EMBED, out=out, matrix=word.table.index, scale=word.scale
                    )
                )
            case NormOp():
                self._norm(index, word)
            case AddOp():
                self._add(index, word)
            case LinearOp():
                self._refuse_interleaved(word.matrix)
                out = self._fresh(index, HwForm.FLOAT32, word.matrix.outputs)
                self._part(word, out, Epilogue.STORE)
            case GateOp():
                self._gate(index, word)
            case AttentionOp():
                self._attention(index, word)
            case ExpertsOp():
                out = self._fresh(index, HwForm.FLOAT32, word.down[0].outputs)
                self._part(word, out, Epilogue.STORE)
            case LmHeadOp():
                source = self._in_form(word.hidden, self._form(word.matrix))
                cap = word.softcap or 0.0
                self._emit(
                    Instruction(
                        kind=HwKind.HEAD, source=source, matrix=word.matrix.index, softcap=cap
                    )
                )

    def _join_gate(self, index: int, word: GateOp) -> None:
        product = self._words[word.x.index]
        joined = isinstance(product, LinearOp) and self._matrices[product.matrix.index].interleaved
        if not joined or self._users[word.x.index] != [index]:
            raise ModelError("only the product with an interleaved gate_up matrix can be gated")
        self._within[word.x.index] = index

    def _join_add(self, index: int, word: AddOp) -> None:
        for part in (word.y, word.x):
            able = isinstance(self._words[part.index], LinearOp | NormOp | ExpertsOp)
            if able and self._users[part.index] == [index]:
                self._within[part.index] = index
                return
        raise ModelError("a sum needs a product, a norm or experts that nothing else uses")

    def _norm(self, index: int, word: NormOp) -> None:
        forms = sorted(self._needed(index) - {HwForm.FLOAT32})
        plain = HwForm.FLOAT32 in self._needed(index) or len(forms) != 1
        size = word.x.width
        outs = [self._fresh(index, form, size) for form in forms[:1]]
        if plain:
            outs.append(self._fresh(index, HwForm.FLOAT32, size))
        self._emit(
            Instruction(
                kind=HwKind.NORM,
                source=self._in_form(word.x, HwForm.FLOAT32),
                out=outs[0],
                out2=outs[1] if len(outs) > 1 else -1,
                weight=word.weight,
                eps=word.eps,
            )
        )

    def _add(self, index: int, word: AddOp) -> None:
        base, part = word.x, word.y
        if self._within.get(part.index) != index:
            base, part = part, base
        added = self._words[part.index]
        target = self._in_form(base, HwForm.FLOAT32)
        if self._needed_after(base, index) or (
            isinstance(added, LinearOp | ExpertsOp) and base in read_by(added)
        ):
            copy = self._buffer(HwForm.FLOAT32, base.width)
            self._emit(Instruction(kind=HwKind.CONVERT, source=target, out=copy))
            target = copy
        self._part(added, target, Epilogue.ADD)
        self._held[index, HwForm.FLOAT32] = target

    def _part(self, word: Op, out: int, epilogue: Epilogue) -> None:
        """A product, norm or mixture whose result is stored to `out` or added there."""
        match word:
            case LinearOp(x=x, matrix=matrix):
                self._refuse_interleaved(matrix)
                self._emit(
                    Instruction(
                        kind=HwKind.LINEAR,
                        source=self._in_form(x, self._form(matrix)),
                        out=out,
                        matrix=matrix.index,
                        epilogue=epilogue,
                    )
                )
            case NormOp(x=x, weight=weight, eps=eps):
                self._emit(
                    Instruction(
                        kind=HwKind.NORM,
                        source=self._in_form(x, HwForm.FLOAT32),
                        out=out,
                        weight=weight,
                        eps=eps,
                        epilogue=epilogue,
                    )
                )
            case ExpertsOp(x=x, scores=scores):
                self._emit(
                    Instruction(
                        kind=HwKind.EXPERTS,
                        source=self._in_form(x, HwForm.FLOAT32),
                        source2=self._in_form(scores, HwForm.FLOAT32),
                        out=out,
                        matrix=_first(word.gate_up),
                        matrix2=_first(word.down),
                        experts=len(word.gate_up),
                        chosen=word.chosen,
                        normalise=word.normalise,
                        activation=_ACTIVATIONS[word.activation],
                        epilogue=epilogue,
                    )
                )

    def _gate(self, index: int, word: GateOp) -> None:
        product = self._words[word.x.index]
        assert isinstance(product, LinearOp)
        self._emit(
            Instruction(
                kind=HwKind.LINEAR,
                source=self._in_form(product.x, self._form(product.matrix)),
                out=self._fresh(index, HwForm.FLOAT32, product.matrix.outputs // 2),
                matrix=product.matrix.index,
                epilogue=Epilogue.GATE,
                activation=_ACTIVATIONS[word.activation],
            )
        )

    def _attention(self, index: int, word: AttentionOp) -> None:
        spec = word.spec
        width = spec.heads * spec.head_dim
        queries = self._buffer(HwForm.FLOAT32, width)
        source = self._in_form(word.qkv, HwForm.FLOAT32)
        self._emit(
            Instruction(kind=HwKind.HEADS, source=source, out=queries, spec=spec, eps=spec.eps)
        )
        out = self._fresh(index, HwForm.FLOAT32, width)
        self._emit(
            Instruction(kind=HwKind.ATTENTION, source=queries, out=out, spec=spec, scale=spec.scale)
        )

    def _refuse_interleaved(self, matrix: Matrix) -> None:
        packed = self._matrices[matrix.index]
        if packed.interleaved:
            raise ModelError(f"{packed.name}: an interleaved matrix is only good for a gate")

    def _needed(self, index: int) -> set[HwForm]:
        """The forms in which a value's users want it."""
        found = set()
        for user in self._users[index]:
            word = self._words[user]
            if isinstance(word, LinearOp | LmHeadOp):
                found.add(self._form(word.matrix))
            else:
                found.add(HwForm.FLOAT32)
        return found

    def _needed_after(self, place: Value, index: int) -> bool:
        """Whether a word that is emitted after this one still reads a value."""
        users = (self._within.get(user, user) for user in self._users[place.index])
        return any(user > index for user in users)

    def _form(self, matrix: Matrix) -> HwForm:
        return self._matrices[matrix.index].form

    def _in_form(self, place: Value, form: HwForm) -> int:
        """The buffer that holds a value in a form, converted to it where it must be."""
        found = self._held.get((place.index, form))
        if found is None:
            source = self._held[place.index, HwForm.FLOAT32]
            found = self._fresh(place.index, form, place.width)
            self._emit(Instruction(kind=HwKind.CONVERT, source=source, out=found))
        return found

    def _fresh(self, index: int, form: HwForm, width: int) -> int:
        self._held[index, form] = buffer = self._buffer(form, width)
        return buffer

    def _buffer(self, form: HwForm, width: int) -> int:
        self.buffers.append(BufferSpec(form=form, width=width))
        return len(self.buffers) - 1

    def _emit(self, operation: Instruction) -> None:
        self.operations.append(operation)


def _first(matrices: Sequence[Matrix]) -> int:
    """The number of the first of matrices that are numbered one after the other."""
    first = matrices[0].index
    if [matrix.index for matrix in matrices] != list(range(first, first + len(matrices))):
        raise ModelError("the matrices of experts must be one stack")
    return first
