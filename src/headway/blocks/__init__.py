"""Bookkeeping of the KV cache's blocks: who holds which, and what may be shared.

A block is a fixed number of consecutive token positions. This package knows ids, counts and
hashes; the keys and values themselves live in the tensor tower, which never sees this.
"""

from headway.blocks.chain import chain
from headway.blocks.pool import BlockPool

__all__ = ["BlockPool", "chain"]
