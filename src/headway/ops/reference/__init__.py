"""The reference backend: plain PyTorch, on any device and in any floating type.

`backend` loads tensors and computes the operations of `Ops`, `attention` the paged part of them,
and `paging` turns the sequences of a step into a few padded batches.
"""

from headway.ops.reference.attention import Batch, KVCache, SliceGroup
from headway.ops.reference.backend import (
    ReferenceBackend,
    ReferenceOps,
    ReferenceWeights,
    onednn_bfloat16,
)
from headway.ops.reference.paging import HostBatch

__all__ = [
    "Batch",
    "HostBatch",
    "KVCache",
    "ReferenceBackend",
    "ReferenceOps",
    "ReferenceWeights",
    "SliceGroup",
    "onednn_bfloat16",
]
