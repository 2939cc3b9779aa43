"""Operations over the flattened token batch: what a backend provides to the models.

`protocol` says which words there are. `reference` computes them in plain PyTorch on any device and
is the oracle that every other backend is tested against; `native` records them into a program of
the compiled kernels. Nothing here knows a request, a policy or a model family, and nothing but
`reference` knows PyTorch.
"""

from headway.ops.protocol import (
    AttentionSpec,
    CacheShape,
    Floats,
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
    "Matrix",
    "Ops",
    "Rope",
    "Table",
    "Vector",
    "Weights",
    "X",
]
