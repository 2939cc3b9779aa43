"""Tokens for a recorded request, which kept none: made up, but equal where the real ones were.

All that batching and prefix caching see of a text is which blocks are equal. So every full block is
made up from its digest, and what fills no block from the request's own number.
"""

from __future__ import annotations

from headway.recording.lines import RequestLine

_ROOM = 256  # for the places in a block, of which the largest has 128
_LOOSE = 2**62
_LONGEST = 2**24


def recorded_tokens(request: RequestLine, block_size: int) -> tuple[int, ...]:
    """All tokens of a request, prompt and generated: below 2**63, so that they can be hashed.

    Blocks with equal digests are equal, others differ in every place, and tokens beyond the last
    full block are nobody else's.
    """
    length = request.prompt_tokens + request.output_tokens
    tokens: list[int] = []
    for digest in request.hashes[: length // block_size]:
        first = int(digest, 16) % (_LOOSE // _ROOM) * _ROOM
        tokens += range(first, first + block_size)
    own = _LOOSE + request.seq * _LONGEST
    tokens += range(own + len(tokens), own + length)
    return tuple(tokens)
