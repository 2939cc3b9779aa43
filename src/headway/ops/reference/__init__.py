"""The reference backend: plain PyTorch, on any device and in any floating type.

`backend` computes the operations of `Ops`, `attention` the paged part of them, `paging` turns the
sequences of a step into a few padded batches, and `weights` loads tensors.
"""

from headway.ops.reference.attention import Batch, KVCache, SliceGroup
from headway.ops.reference.backend import ReferenceBackend, ReferenceOps, onednn_bfloat16
from headway.ops.reference.paging import HostBatch
from headway.ops.reference.weights import ReferenceWeights

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
