"""What an engine is: its batching policy, its scheduler's settings, and what computes its steps.

The same values describe an engine that runs (`headway.wire.EngineInfo`), one that was recorded or
measured (the header of a recording, a profile) and one that is simulated.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from headway.types.speculation import SpeculativeConfig
from headway.types.step import Limits

KVReservation = Literal["on-demand", "full"]
"""When KV blocks are taken: as tokens come, or at admission for all that a request may need."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyConfig:
    """A batching policy by its name, and what its parameters are set to."""

    name: str = "continuous"
    options: Mapping[str, bool | int | float | str] = field(default_factory=dict)
    """By the name of a field of the policy's class; a field that is missing has its default."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SchedulerConfig:
    """All that the plans of a scheduler depend on, but for the requests."""

    policy: PolicyConfig = field(default_factory=PolicyConfig)
    limits: Limits
    num_blocks: int
    """Blocks of the KV cache."""
    block_size: int
    """Tokens in one of them."""
    prefix_caching: bool = True
    reservation: KVReservation = "on-demand"
    speculation: SpeculativeConfig | None = None
    """How tokens are computed ahead of their sampling; None: not at all."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Hardware:
    """What computes the steps, and in which number formats."""

    device: str
    """"cpu", "cuda:0", or the name of a device in a data file."""
    dtype: str
    """Number format of the weights."""
    kv_cache_dtype: str
    backend: str = ""
    """Which kernels run, such as "native (avx512)"; empty where nothing is computed."""
    threads: int = 0
    isa: str | None = None
    """Instruction set of the native kernels; None where others compute."""
