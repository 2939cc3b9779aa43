"""The reference backend: plain PyTorch, on any device and in any floating type.

`backend` is one device and type: it loads weights, allocates the cache and starts steps. `step`
computes the words of `Ops` over one step, `attention` the paged part of them, and `paging` turns
the sequences of a step into a few padded batches.
"""

from headway.ops.reference.attention import Batch, KVCache, SliceGroup
from headway.ops.reference.backend import ReferenceBackend, onednn_bfloat16
from headway.ops.reference.ops import ReferenceOps
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
