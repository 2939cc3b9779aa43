"""Names for the contents of full blocks, so that equal prefixes can be found.

Keys and values at a position depend on every token before it, so a block's name is a digest of its
parent's name and its own tokens: equal names mean equal prefixes. The first block's parent is the
salt, which keeps apart those who must not share.
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from hashlib import blake2b

DIGEST_BYTES = 16


def chain(
    tokens: Sequence[int], block_size: int, salt: bytes, parents: Sequence[bytes] = ()
) -> list[bytes]:
    """Digests of the full blocks of `tokens` that come after those named by `parents`.

    `parents` are the digests of the first `len(parents)` blocks, so that a growing sequence hashes
    every block once. Token ids are below 2**63; a last block that is not full has no name.
    """
    digest = parents[-1] if parents else blake2b(salt, digest_size=DIGEST_BYTES).digest()
    found = []
    for start in range(len(parents) * block_size, len(tokens) - block_size + 1, block_size):
        content = array("q", tokens[start : start + block_size]).tobytes()
        digest = blake2b(digest + content, digest_size=DIGEST_BYTES).digest()
        found.append(digest)
    return found
