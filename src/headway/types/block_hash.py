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
WORD_BYTES = 8


def block_hashes(
    tokens: Sequence[int], block_size: int, salt: bytes, parents: Sequence[bytes] = ()
) -> list[bytes]:
    """Digests of the full blocks of `tokens` that come after those named by `parents`.

    `parents` are the digests of the first `len(parents)` blocks, so that a growing sequence hashes
    every block once. Token ids are below 2**63; a last block that is not full has no name.
    """
    begin = len(parents) * block_size
    blocks = (len(tokens) - begin) // block_size
    if blocks <= 0:
        return []
    digest = parents[-1] if parents else blake2b(salt, digest_size=DIGEST_BYTES).digest()
    content = array("q", tokens[begin : begin + blocks * block_size]).tobytes()
    found, width = [], WORD_BYTES * block_size
    for start in range(0, len(content), width):
        digest = blake2b(digest + content[start : start + width], digest_size=DIGEST_BYTES).digest()
        found.append(digest)
    return found
