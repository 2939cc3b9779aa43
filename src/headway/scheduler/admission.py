"""Whether a sequence fits: on arrival at all, and now beside those that run. Pure functions.

A sequence is admitted where the *peak* of block use that is predicted for everybody on board fits
the pool. Sequences that decode grow in lockstep, a token a step, and leave in the order of their
remaining lengths, so the peak lies at one of the departures. One that has not finished its prefill
may be delayed, so it counts with its final size throughout.
"""

from __future__ import annotations

from collections.abc import Iterable

from headway.errors import InvalidRequest, RequestTooLarge
from headway.types import Limits, Request


def blocks_for(tokens: int, block_size: int) -> int:
    """Blocks that hold so many tokens."""
    return -(-tokens // block_size)


def check_request(request: Request, limits: Limits, *, num_blocks: int, block_size: int) -> None:
    """Raise `InvalidRequest` that names the field if the request can never be served."""
    prompt, allowed = len(request.prompt), request.sampling.max_tokens
    if not prompt:
        raise InvalidRequest("the prompt is empty", field="prompt")
    if allowed < 1:
        raise InvalidRequest(f"max_tokens must be at least 1, got {allowed}", field="max_tokens")
    if prompt >= limits.max_model_len:
        raise RequestTooLarge(
            f"the prompt has {prompt} tokens; with one generated token at least, this exceeds the "
            f"context of {limits.max_model_len}",
            field="prompt",
        )
    if prompt + allowed > limits.max_model_len:
        raise RequestTooLarge(
            f"prompt ({prompt}) and max_tokens ({allowed}) exceed the context of "
            f"{limits.max_model_len} tokens",
            field="max_tokens",
        )
    # The last token is never fed back, so it is not stored.
    if blocks_for(prompt + allowed - 1, block_size) > num_blocks:
        raise RequestTooLarge(
            f"prompt ({prompt}) and max_tokens ({allowed}) exceed the KV cache of "
            f"{num_blocks * block_size} tokens",
            field="prompt" if blocks_for(prompt, block_size) > num_blocks else "max_tokens",
        )


def peak_blocks(growing: Iterable[tuple[int, int]], block_size: int) -> int:
    """An upper bound on the blocks that lockstep sequences ever hold at once.

    `growing` has (remaining, stored) per sequence: steps until it leaves, and tokens stored before
    the first of them. When the k-th of the longest-lived leaves after r steps, the k hold the sum
    of their stored tokens and k * r more, each with a last block that may be all but empty.
    """
    peak = total = 0
    slack = block_size - 1
    for count, (remaining, stored) in enumerate(sorted(growing, reverse=True), 1):
        total += stored
        peak = max(peak, (total + count * (remaining + slack)) // block_size)
    return peak
