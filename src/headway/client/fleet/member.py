"""`FleetMember`: one engine of a fleet, with what the fleet wants of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from headway.client.client import EngineClient
from headway.client.status import ReplicaStatus
from headway.routing import EngineView, StepCosts, step_costs
from headway.steptime.model import StepTimeModel
from headway.types import TokenEvent
from headway.types.fleet import Role
from headway.wire import EngineInfo, EngineStats, LearnedModel


@dataclass(slots=True, kw_only=True, eq=False)
class FleetMember:
    """One engine, its load as a router sees it, and whether it may get requests."""

    id: int
    client: EngineClient
    cpus: tuple[int, ...] = ()
    gpu: str = ""
    role: Role = "both"
    handed_over: int = 0
    """Requests whose prompt it computed, and that another one went on with."""
    view: EngineView = field(default_factory=EngineView)
    leaving: bool = False
    """It is being drained, and will be gone."""
    resting: bool = False
    """Its process is to be replaced, before which it gets no more requests."""
    overdue: bool = False
    """Its process died, and the next one takes too long for those that wait for it."""
    _heard: EngineStats = field(default_factory=EngineStats)
    _restarts: int = 0
    _accepted: bool = False

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
    def accepting(self) -> bool:
        """Whether others may join what it runs: nothing there may be about to kill it."""
        return self.open and not self.client.journal.proving

    @property
    def awaited(self) -> bool:
        """Whether what it has may stay there, as it runs or will soon run again."""
        return self.alive and not self.resting and not self.overdue

    def reopened(self) -> bool:
        """Whether it accepts requests, which it did not when this was last asked."""
        before, self._accepted = self._accepted, self.accepting
        return self._accepted and not before

    @property
    def status(self) -> ReplicaStatus:
        """What it is doing, for others to read."""
        status = self.client.status
        leaves = self.leaving or (self.resting and status.state == "ready")
        state = "draining" if leaves else status.state
        return replace(status, state=state, role=self.role, handed_over=self.handed_over)

    def join(self) -> None:
        """It is ready for the first time: a router may know what it has and how fast it is."""
        info = self.client.info
        self.view = EngineView.of(info.scheduler, _costs(info, None), self.role)

    def hear(self, events: Sequence[TokenEvent], stats: EngineStats, now: float) -> None:
        """Let routers know what the engine has told at a time, in seconds on the monotonic clock.

        The ends of requests are told to `view` besides.
        """
        before, self._heard = self._heard, stats
        if stats.step != before.step:
            self.view.stepped(now, stats.step_tokens, events)
        pacing = stats.pacing
        if pacing is not before.pacing and pacing is not None and pacing.model is not None:
            costs = _costs(self.client.info, pacing.model)
            if costs is not None:
                self.view.learn(costs)

    def renew(self) -> None:
        """Forget what its KV cache had if its process was replaced since this was last called, by
        one that has begun with an empty cache."""
        if self.client.state == "ready" and self.client.restarts != self._restarts:
            self._restarts = self.client.restarts
            if not self.client.info.adopted_blocks:
                self.view.forget()


def _costs(info: EngineInfo, model: LearnedModel | None) -> StepCosts | None:
    """What the engine's steps cost, as far as it has told."""
    if info.sizes is None or info.machine is None:
        return None
    if model is None:
        return step_costs(StepTimeModel(info.sizes, info.machine))
    return step_costs(StepTimeModel(info.sizes, info.machine, model.coefficients))
