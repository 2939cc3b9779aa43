"""What a stand-in for one engine says of replicas."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from headway.client import EngineState, ReplicaState, ReplicaStatus
from headway.errors import Unavailable
from headway.types.fleet import Role
from headway.wire import EngineInfo, EngineStats


class OneEngine:
    """The part of an `EngineHandle` that is about replicas, of which there is one."""

    state: EngineState
    restarts: int
    stats: EngineStats
    running: Collection[str]
    info: EngineInfo

    @property
    def replicas(self) -> Sequence[ReplicaStatus]:
        state: ReplicaState = "ready" if self.state == "ready" else "failed"
        return [
            ReplicaStatus(
                id=0,
                state=state,
                pid=None,
                restarts=self.restarts,
                live=len(self.running),
                cpus=(),
                stats=self.stats,
                info=self.info,
            )
        ]

    async def add_replica(self, role: Role = "both") -> int:
        raise Unavailable("one engine")

    async def drain(self, replica: int) -> int:
        raise Unavailable("one engine")

    async def restart(self) -> None:
        self.restarts += 1
