"""Weights without data: names, formats and sizes, for tests of what is traced and lowered."""

from __future__ import annotations

from collections.abc import Mapping

from headway.checkpoint.layout import canonical_tensors
from headway.errors import ModelError
from headway.models import load_model
from headway.native.abi import HwWeightFormat
from headway.ops import Floats, Matrix, Rope, Table, Vector
from headway.ops.native import Tracer
from headway.ops.native.weights import PackedMatrix
from headway.types.model import ModelConfig


class FakeWeights:
    """`Weights` with the shapes of a model and one weight format, but for exceptions by name."""

    def __init__(
        self,
        config: ModelConfig,
        weight_format: HwWeightFormat,
        exceptions: Mapping[str, HwWeightFormat] | None = None,
    ) -> None:
        self.matrices: list[PackedMatrix] = []
        self.vector_names: list[str] = []
        self._shapes = {target.name: target.shape for target in canonical_tensors(config)}
        self._format = weight_format
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
        weight_format = self._exceptions.get(name.rsplit(".", maxsplit=1)[-1], self._format)
        self.matrices.append(
            PackedMatrix(
                name=name, format=weight_format, outputs=outputs, inputs=inputs, data=64, bias=None
            )
        )
        return self._handle(len(self.matrices) - 1)

    def _handle(self, index: int) -> Matrix:
        found = self.matrices[index]
        return Matrix(index=index, outputs=found.outputs, inputs=found.inputs)

    def _shape(self, name: str) -> tuple[int, ...]:
        if name not in self._shapes:
            raise ModelError(f"{name} is missing")
        return self._shapes[name]


def trace(config: ModelConfig, weights: FakeWeights) -> Tracer:
    """A whole model's ops."""
    model, tracer = load_model(config, weights, length=8), Tracer()
    model.logits(tracer, model.forward(tracer))
    return tracer
