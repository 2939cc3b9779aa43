"""What every runner is built with: limits of a step, and the KV blocks that memory allows.

Limits come from the settings, else from the device and the model. The KV cache takes what a
`CacheBudget` leaves after the weights; a length that nobody asked for is cut to fit it, and one
that somebody asked for and that does not fit is refused. Bytes throughout.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace

from headway.checkpoint import ModelConfig
from headway.config import EngineConfig
from headway.errors import InvalidRequest
from headway.grammar import GrammarCompiler
from headway.ops import CacheShape
from headway.ops.native import KeptCache, OtherCaches
from headway.types import Limits
from headway.types.engine import Hardware
from headway.types.step import Runner

logger = logging.getLogger(__name__)

_CPU_LIMITS = (256, 512)
_CUDA_LIMITS = (1024, 8192)
"""Most sequences and most tokens of a step."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadedRunner:
    """What building a runner gives: the runner, and what was found and chosen on the way."""

    runner: Runner
    model: ModelConfig
    hardware: Hardware
    limits: Limits
    num_blocks: int
    block_size: int
    kv_bytes: int
    weight_bytes: int
    grammars: GrammarCompiler | None = None
    """Where the runner has its grammars from; None where it was not told what tokens stand for."""
    kept: KeptCache | None = None
    """The KV cache, where it outlives the engine."""
    others: OtherCaches | None = None
    """The KV caches of other engines, where blocks can be loaded from them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheBudget:
    """What the KV cache may take: the caller's number, or a fraction of what was free."""

    given: int | None
    """`kv_cache_memory`, which overrides all else."""
    fraction: float
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
        return max(0, min(int(self.fraction * self.free_before) - taken, self.free_after))


def fit_length(limits: Limits, budget: CacheBudget, *, block_bytes: int, block_size: int) -> Limits:
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


def count_blocks(budget: CacheBudget, *, block_bytes: int, block_size: int, limits: Limits) -> int:
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


def choose_limits(config: EngineConfig, model: ModelConfig, *, cuda: bool) -> Limits:
    """Bounds on a step: the settings', else the device's, and the model's longest sequence."""
    seqs, tokens = _CUDA_LIMITS if cuda else _CPU_LIMITS
    length = config.max_model_len or model.max_position
    if length > model.max_position:
        raise InvalidRequest(
            f"max_model_len {length} is more than the {model.max_position} positions that "
            f"{model.name} was made for",
            field="max_model_len",
        )
    return Limits(
        max_num_seqs=config.max_num_seqs or seqs,
        max_num_batched_tokens=config.max_num_batched_tokens or tokens,
        max_num_partial_prefills=config.max_num_partial_prefills,
        max_model_len=length,
    )


def one_block(config: EngineConfig, model: ModelConfig) -> CacheShape:
    """A KV cache of a single block, whose size says how many fit."""
    return CacheShape(
        num_layers=model.num_layers,
        num_blocks=1,
        block_size=config.block_size,
        num_kv_heads=model.num_kv_heads,
        head_dim=model.head_dim,
    )


def choose_cache(
    config: EngineConfig, one: CacheShape, limits: Limits, budget: CacheBudget, block_bytes: int
) -> tuple[Limits, CacheShape]:
    """The KV cache that the budget allows; a length that nobody asked for is cut to fit it."""
    if config.max_model_len is None:
        limits = fit_length(limits, budget, block_bytes=block_bytes, block_size=one.block_size)
    number = count_blocks(budget, limits=limits, block_bytes=block_bytes, block_size=one.block_size)
    return limits, replace(one, num_blocks=number)
