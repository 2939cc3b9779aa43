"""What one engine of those behind an `EngineHandle` is doing, for metrics, health and people."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from headway.types.fleet import Role
from headway.wire import EngineInfo, EngineStats

ReplicaState = Literal["starting", "ready", "restarting", "draining", "failed"]
"""`draining`: it gets no request any more and is gone soon. `failed`: it will not come back."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplicaStatus:
    """A replica as it is now."""

    id: int
    """Counted from 0 and never used again, not even for what replaces a drained replica."""
    state: ReplicaState
    pid: int | None
    """Of its process; None while there is none."""
    restarts: int
    """How many times its process was replaced."""
    given: int = 0
    """Requests that it was ever given, those included that came from another replica or went to
    one."""
    live: int
    """Requests that it was given and that have not ended, waiting ones included."""
    cpus: tuple[int, ...]
    """Cores that it is pinned to; empty where it may use any."""
    gpu: str = ""
    """The GPU that it was given, as CUDA_VISIBLE_DEVICES names it; empty if it was given none."""
    role: Role = "both"
    handed_over: int = 0
    """Requests whose prompt it computed, and that another replica went on with."""
    stats: EngineStats
    """Its own; counters never fall."""
    info: EngineInfo
