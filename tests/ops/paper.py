"""Weights that exist on paper only: names, forms and sizes, for tests of what is recorded."""

from __future__ import annotations

from collections.abc import Mapping

from headway.checkpoint.layout import targets
from headway.errors import ModelError
from headway.models import load_model
from headway.native.abi import HwForm
from headway.ops import Floats, Matrix, Rope, Table, Vector
from headway.ops.native import Tracer
from headway.ops.native.weights import PackedMatrix
from headway.types.model import ModelConfig


class PaperWeights:
    """`Weights` with the canonical shapes of a model and one form, but for exceptions by name."""

    def __init__(
        self, config: ModelConfig, form: HwForm, exceptions: Mapping[str, HwForm] | None = None
    ) -> None:
        self.matrices: list[PackedMatrix] = []
        self.vector_names: list[str] = []
        self._shapes = {target.name: target.shape for target in targets(config)}
        self._form = form
        self._exceptions = exceptions or {}
        self._ropes = 0

    def table(self, name: str) -> Table:
        return Table(index=self.matrix(name).index, width=self._shape(f"{name}.weight")[1])

    def matrix(self, name: str, *, bias: bool = False) -> Matrix:
        if bias:
            self._shape(f"{name}.bias")
        known = next((n for n, each in enumerate(self.matrices) if each.name == name), None)
        outputs, inputs = self._shape(f"{name}.weight")
        return self._add(name, outputs, inputs) if known is None else self._handle(known)

    def stack(self, name: str) -> tuple[Matrix, ...]:
        number, outputs, inputs = self._shape(f"{name}.weight")
        return tuple(self._add(name, outputs, inputs) for _ in range(number))

    def vector(self, name: str) -> Vector:
        self.vector_names.append(name)
        return Vector(index=len(self.vector_names) - 1, size=self._shape(f"{name}.weight")[0])

    def rope(self, cos: Floats, sin: Floats) -> Rope:
        assert cos.shape == sin.shape
        self._ropes += 1
        return Rope(index=self._ropes - 1)

    def _add(self, name: str, outputs: int, inputs: int) -> Matrix:
        form = self._exceptions.get(name.rsplit(".", maxsplit=1)[-1], self._form)
        self.matrices.append(
            PackedMatrix(name=name, form=form, outputs=outputs, inputs=inputs, data=64, bias=None)
        )
        return self._handle(len(self.matrices) - 1)

    def _handle(self, index: int) -> Matrix:
        found = self.matrices[index]
        return Matrix(index=index, outputs=found.outputs, inputs=found.inputs)

    def _shape(self, name: str) -> tuple[int, ...]:
        if name not in self._shapes:
            raise ModelError(f"{name} is missing")
        return self._shapes[name]


def record(config: ModelConfig, weights: PaperWeights) -> Tracer:
    """A whole model's words."""
    model, recorder = load_model(config, weights, length=8), Tracer()
    model.logits(recorder, model.forward(recorder))
    return recorder
