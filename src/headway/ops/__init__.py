"""Operations over the flattened token batch: what a backend provides to the models.

`protocol` defines them (`Ops`), and what a backend loads (`Weights`). `reference` computes them in
plain PyTorch on any device and is the oracle that every other backend is tested against. `trace`
records them instead, and `native` turns that record into a program of the compiled kernels.
Nothing here knows a request, a policy or a model family, and nothing but `reference` knows PyTorch.
"""

from headway.ops.protocol import (
    AttentionSpec,
    CacheShape,
    Floats,
    Ints,
    Matrix,
    Ops,
    Rope,
    Table,
    Vector,
    Weights,
    X,
)

__all__ = [
    "AttentionSpec",
    "CacheShape",
    "Floats",
    "Ints",
    "Matrix",
    "Ops",
    "Rope",
    "Table",
    "Vector",
    "Weights",
    "X",
]
