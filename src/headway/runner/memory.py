"""How much memory there is, and how many KV blocks it holds. Bytes throughout."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace

from headway.errors import InvalidRequest
from headway.types import Limits

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """What the KV cache may take: the caller's number, or a share of what was free."""

    given: int | None
    """`kv_cache_memory`, which overrides all else."""
    share: float
    """Of the free memory, for weights and KV cache together."""
    free_before: int
    """Free before the weights were loaded."""
    free_after: int
    most: int | None = None
    """What the cache is not to exceed, unless one sequence of the greatest length needs it."""

    @property
    def size(self) -> int:
        if self.given is not None:
            return self.given
        taken = max(0, self.free_before - self.free_after)
        return max(0, min(int(self.share * self.free_before) - taken, self.free_after))


def fit_length(limits: Limits, budget: Budget, *, block_bytes: int, block_size: int) -> Limits:
    """The limits with their longest sequence cut to what the budget holds, if that is anything."""
    fitting = budget.size // block_bytes * block_size
    if not 0 < fitting < limits.max_model_len:
        return limits
    logger.warning(
        "the KV cache holds %d tokens, so max_model_len is that and not the model's %d; "
        "a larger --kv-cache-memory allows more",
        fitting,
        limits.max_model_len,
    )
    return replace(limits, max_model_len=fitting)


def count_blocks(budget: Budget, *, block_bytes: int, block_size: int, limits: Limits) -> int:
    """KV blocks that fit the budget, and no more than the limits can use.

    Raises `InvalidRequest` where not even one sequence of the greatest length would fit.
    """
    longest = -(-limits.max_model_len // block_size)
    fitting = budget.size // block_bytes
    if fitting < longest:
        gib = 2**30
        raise InvalidRequest(
            f"the KV cache of one sequence of {limits.max_model_len} tokens takes "
            f"{longest * block_bytes / gib:.2f} GiB, but only {budget.size / gib:.2f} GiB may be "
            f"used: give a --max-model-len of at most {fitting * block_size}, "
            "or a larger --kv-cache-memory",
            field="max_model_len" if budget.given is None else "kv_cache_memory",
        )
    if budget.most is not None:
        fitting = min(fitting, max(longest, budget.most // block_bytes))
    return int(min(fitting, limits.max_num_seqs * longest))
