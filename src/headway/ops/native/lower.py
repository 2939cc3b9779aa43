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
from headway.native.abi import Activation, Epilogue, Form, Kind
from headway.ops.native.program import BufferSpec, Listing, Operation, share_buffers
from headway.ops.native.weights import PackedMatrix
from headway.ops.protocol import Matrix
from headway.ops.trace import (
    Add,
    Attention,
    Embed,
    Experts,
    Gate,
    Head,
    Linear,
    Norm,
    Place,
    Word,
    read_by,
)

_ACTIVATIONS = {"silu": Activation.SILU, "gelu_tanh": Activation.GELU_TANH}


def lower(words: Sequence[Word], matrices: Sequence[PackedMatrix]) -> Listing:
    """The program of a record whose last word is `head`; `ModelError` where there is none."""
    if not words or not isinstance(words[-1], Head):
        raise ModelError("a recorded model must end with its head")
    lowering = _Lowering(words, matrices)
    for index in range(len(words)):
        lowering.lower(index)
    return share_buffers(
        Listing(operations=tuple(lowering.operations), buffers=tuple(lowering.buffers))
    )


class _Lowering:
    """Walks over the words; every value gets buffers of its own here, which are shared later."""

    def __init__(self, words: Sequence[Word], matrices: Sequence[PackedMatrix]) -> None:
        self.operations: list[Operation] = []
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
            if isinstance(word, Gate):
                self._join_gate(index, word)
            elif isinstance(word, Add):
                self._join_add(index, word)
        self._held: dict[tuple[int, Form], int] = {}
        """Where each value lies, by form."""

    def lower(self, index: int) -> None:
        """Write one word's operations, unless another one does."""
        if index in self._within:
            return
        word = self._words[index]
        match word:
            case Embed():
                out = self._fresh(index, Form.FLOAT32, word.table.width)
                self._emit(
                    Operation(kind=Kind.EMBED, out=out, matrix=word.table.index, scale=word.scale)
                )
            case Norm():
                self._norm(index, word)
            case Add():
                self._add(index, word)
            case Linear():
                self._refuse_interleaved(word.matrix)
                out = self._fresh(index, Form.FLOAT32, word.matrix.outputs)
                self._part(word, out, Epilogue.STORE)
            case Gate():
                self._gate(index, word)
            case Attention():
                self._attention(index, word)
            case Experts():
                out = self._fresh(index, Form.FLOAT32, word.down[0].outputs)
                self._part(word, out, Epilogue.STORE)
            case Head():
                source = self._in_form(word.hidden, self._form(word.matrix))
                cap = word.softcap or 0.0
                self._emit(
                    Operation(kind=Kind.HEAD, source=source, matrix=word.matrix.index, softcap=cap)
                )

    def _join_gate(self, index: int, word: Gate) -> None:
        product = self._words[word.x.index]
        joined = isinstance(product, Linear) and self._matrices[product.matrix.index].interleaved
        if not joined or self._users[word.x.index] != [index]:
            raise ModelError("only the product with an interleaved gate_up matrix can be gated")
        self._within[word.x.index] = index

    def _join_add(self, index: int, word: Add) -> None:
        for part in (word.y, word.x):
            able = isinstance(self._words[part.index], Linear | Norm | Experts)
            if able and self._users[part.index] == [index]:
                self._within[part.index] = index
                return
        raise ModelError("a sum needs a product, a norm or experts that nothing else uses")

    def _norm(self, index: int, word: Norm) -> None:
        forms = sorted(self._needed(index) - {Form.FLOAT32})
        plain = Form.FLOAT32 in self._needed(index) or len(forms) != 1
        size = word.x.width
        outs = [self._fresh(index, form, size) for form in forms[:1]]
        if plain:
            outs.append(self._fresh(index, Form.FLOAT32, size))
        self._emit(
            Operation(
                kind=Kind.NORM,
                source=self._in_form(word.x, Form.FLOAT32),
                out=outs[0],
                out2=outs[1] if len(outs) > 1 else -1,
                weight=word.weight,
                eps=word.eps,
            )
        )

    def _add(self, index: int, word: Add) -> None:
        base, part = word.x, word.y
        if self._within.get(part.index) != index:
            base, part = part, base
        added = self._words[part.index]
        target = self._in_form(base, Form.FLOAT32)
        if self._needed_after(base, index) or (
            isinstance(added, Linear | Experts) and base in read_by(added)
        ):
            copy = self._buffer(Form.FLOAT32, base.width)
            self._emit(Operation(kind=Kind.CONVERT, source=target, out=copy))
            target = copy
        self._part(added, target, Epilogue.ADD)
        self._held[index, Form.FLOAT32] = target

    def _part(self, word: Word, out: int, epilogue: Epilogue) -> None:
        """A product, norm or mixture whose result is stored to `out` or added there."""
        match word:
            case Linear(x=x, matrix=matrix):
                self._refuse_interleaved(matrix)
                self._emit(
                    Operation(
                        kind=Kind.LINEAR,
                        source=self._in_form(x, self._form(matrix)),
                        out=out,
                        matrix=matrix.index,
                        epilogue=epilogue,
                    )
                )
            case Norm(x=x, weight=weight, eps=eps):
                self._emit(
                    Operation(
                        kind=Kind.NORM,
                        source=self._in_form(x, Form.FLOAT32),
                        out=out,
                        weight=weight,
                        eps=eps,
                        epilogue=epilogue,
                    )
                )
            case Experts(x=x, scores=scores):
                self._emit(
                    Operation(
                        kind=Kind.EXPERTS,
                        source=self._in_form(x, Form.FLOAT32),
                        source2=self._in_form(scores, Form.FLOAT32),
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

    def _gate(self, index: int, word: Gate) -> None:
        product = self._words[word.x.index]
        assert isinstance(product, Linear)
        self._emit(
            Operation(
                kind=Kind.LINEAR,
                source=self._in_form(product.x, self._form(product.matrix)),
                out=self._fresh(index, Form.FLOAT32, product.matrix.outputs // 2),
                matrix=product.matrix.index,
                epilogue=Epilogue.GATE,
                activation=_ACTIVATIONS[word.activation],
            )
        )

    def _attention(self, index: int, word: Attention) -> None:
        spec = word.spec
        width = spec.heads * spec.head_dim
        queries = self._buffer(Form.FLOAT32, width)
        source = self._in_form(word.qkv, Form.FLOAT32)
        self._emit(Operation(kind=Kind.HEADS, source=source, out=queries, spec=spec, eps=spec.eps))
        out = self._fresh(index, Form.FLOAT32, width)
        self._emit(
            Operation(kind=Kind.ATTENTION, source=queries, out=out, spec=spec, scale=spec.scale)
        )

    def _refuse_interleaved(self, matrix: Matrix) -> None:
        packed = self._matrices[matrix.index]
        if packed.interleaved:
            raise ModelError(f"{packed.name}: an interleaved matrix is only good for a gate")

    def _needed(self, index: int) -> set[Form]:
        """The forms in which a value's users want it."""
        found = set()
        for user in self._users[index]:
            word = self._words[user]
            if isinstance(word, Linear | Head):
                found.add(self._form(word.matrix))
            else:
                found.add(Form.FLOAT32)
        return found

    def _needed_after(self, place: Place, index: int) -> bool:
        """Whether a word that is emitted after this one still reads a value."""
        users = (self._within.get(user, user) for user in self._users[place.index])
        return any(user > index for user in users)

    def _form(self, matrix: Matrix) -> Form:
        return self._matrices[matrix.index].form

    def _in_form(self, place: Place, form: Form) -> int:
        """The buffer that holds a value in a form, converted to it where it must be."""
        found = self._held.get((place.index, form))
        if found is None:
            source = self._held[place.index, Form.FLOAT32]
            found = self._fresh(place.index, form, place.width)
            self._emit(Operation(kind=Kind.CONVERT, source=source, out=found))
        return found

    def _fresh(self, index: int, form: Form, width: int) -> int:
        self._held[index, form] = buffer = self._buffer(form, width)
        return buffer

    def _buffer(self, form: Form, width: int) -> int:
        self.buffers.append(BufferSpec(form=form, width=width))
        return len(self.buffers) - 1

    def _emit(self, operation: Operation) -> None:
        self.operations.append(operation)


def _first(matrices: Sequence[Matrix]) -> int:
    """The number of the first of matrices that are numbered one after the other."""
    first = matrices[0].index
    if [matrix.index for matrix in matrices] != list(range(first, first + len(matrices))):
        raise ModelError("the matrices of experts must be one stack")
    return first
