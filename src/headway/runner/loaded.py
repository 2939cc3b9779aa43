"""What building a runner gives: the runner, and what was found and chosen on the way."""

from __future__ import annotations

from dataclasses import dataclass

from headway.checkpoint import ModelConfig
from headway.types import Limits
from headway.types.engine import Hardware
from headway.types.runner import Runner


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadedRunner:
    """A runner, and what there is to say about it."""

    runner: Runner
    model: ModelConfig
    hardware: Hardware
    limits: Limits
    num_blocks: int
    block_size: int
    kv_bytes: int
    weight_bytes: int
