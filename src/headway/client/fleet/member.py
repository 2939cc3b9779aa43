"""`FleetMember`: one engine of a fleet, with what the fleet wants of it."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from headway.client.client import EngineClient
from headway.client.status import ReplicaStatus
from headway.routing import EngineView


@dataclass(slots=True, kw_only=True, eq=False)
class FleetMember:
    """One engine, its load as a router sees it, and whether it may get requests."""

    id: int
    client: EngineClient
    cpus: tuple[int, ...] = ()
    view: EngineView = field(default_factory=EngineView)
    leaving: bool = False
    """It is being drained, and will be gone."""
    resting: bool = False
    """Its process is to be replaced, before which it gets no more requests."""

    @property
    def alive(self) -> bool:
        """Whether it runs requests, or will after a restart."""
        return self.client.state in ("ready", "restarting") and not self.leaving

    @property
    def open(self) -> bool:
        """Whether it runs now what it is given now. One that isolates a request does not."""
        return (
            self.client.state == "ready"
            and not self.leaving
            and not self.resting
            and not self.client.journal.isolating
        )

    @property
    def status(self) -> ReplicaStatus:
        """What it is doing, for others to read."""
        status = self.client.status
        leaves = self.leaving or (self.resting and status.state == "ready")
        return replace(status, state="draining") if leaves else status
