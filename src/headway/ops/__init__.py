"""Operations over the flattened token batch: what a backend provides to the models.

`protocol` says which operations there are, `reference` computes them in plain PyTorch on any
device and is the oracle that every other backend is tested against, `paging` turns the sequences
of a step into a few padded batches. Nothing here knows a request, a policy or a model family.
"""

from headway.ops.protocol import Batch, Cache, CacheShape, Group, HostBatch, Matrix, Ops
from headway.ops.reference import ReferenceOps

__all__ = [
    "Batch",
    "Cache",
    "CacheShape",
    "Group",
    "HostBatch",
    "Matrix",
    "Ops",
    "ReferenceOps",
]
