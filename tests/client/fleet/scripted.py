"""A fleet whose engines have no processes: a test steps, kills and revives them, behind the real
clients and journals.

An engine gives what the fake engine program gives (see `tests.client.fake_engine`), a token for
each running request in each step, and has few slots, so that requests wait. What it is told and
what it tells both lie on the way until the test lets them through, since that is where moves could
go wrong.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

from msgspec import structs

from headway.client.fleet import EngineFleet
from headway.client.handle import EngineState
from headway.client.supervisor import EngineOwner
from headway.config import EngineConfig
from headway.errors import EngineError, Unavailable
from headway.routing import RouterName
from headway.types import Limits, Request, TokenEvent
from headway.types.engine import Hardware, SchedulerConfig
from headway.types.fleet import Role
from headway.wire import EngineInfo, EngineStats, Events, Start
from tests.client.fake_engine import POISON, next_token

SLOTS = 3
NUM_BLOCKS = 100
INFO = EngineInfo(
    hardware=Hardware(device="cpu", dtype="float32", kv_cache_dtype="float32"),
    scheduler=SchedulerConfig(
        limits=Limits(
            max_num_seqs=SLOTS,
            max_num_batched_tokens=64,
            max_num_partial_prefills=1,
            max_model_len=1000,
        ),
        num_blocks=NUM_BLOCKS,
        block_size=8,
    ),
    kv_bytes=800,
    weight_bytes=50,
    loads_blocks=True,
)


@dataclass(slots=True)
class ScriptedRun:
    """A request in an engine."""

    request: Request
    history: list[int]
    heard: bool = False
    got: int = 0
    """Tokens computed here."""

    @property
    def deadly(self) -> bool:
        """Whether computing its next token ends the engine: `POISON` does, or what follows it in
        the prompt says after how many tokens."""
        prompt = self.request.prompt
        if POISON not in prompt:
            return False
        _, *fuse = prompt[prompt.index(POISON) :]
        return self.got >= sum(fuse)


@dataclass(slots=True)
class ScriptedProcess:
    """What a supervisor's `engine` is to a client: a process and its connection in one."""

    owner: ScriptedSupervisor
    useful: bool = False
    silence: float = 0.0
    inbox: list[Request | str] = field(default_factory=list)
    """Requests, and the ids of those to be aborted, as they were sent."""
    outbox: list[Events] = field(default_factory=list)
    runs: dict[str, ScriptedRun] = field(default_factory=dict)
    steps: int = 0

    @property
    def connection(self) -> ScriptedProcess:
        return self

    @property
    def process(self) -> Any:
        return SimpleNamespace(pid=1000 + id(self) % 1000)

    @property
    def watch(self) -> Any:
        return SimpleNamespace(silence=self.silence)

    def submit(self, requests: Sequence[Request]) -> list[tuple[Request, str]]:
        self.inbox += requests
        self.owner.sources.update(each.kv_source for each in requests)
        return []

    def abort(self, ids: Sequence[str]) -> None:
        self.inbox += ids

    def kill(self, _: str) -> None:
        asyncio.get_running_loop().call_soon(self.owner.die, self)

    def step(self) -> bool:
        """Compute a token for each that has a slot; returns whether the engine outlived that."""
        events = self._read()
        running = list(self.runs.values())[:SLOTS]
        if any(each.deadly for each in running):
            return False
        self.steps += bool(running)
        events += [self._advance(each) for each in running]
        self.outbox.append(Events(events=events, stats=self.stats()))
        return True

    def stats(self) -> EngineStats:
        running = min(SLOTS, len(self.runs))
        return EngineStats(
            step=self.steps,
            running=running,
            waiting=len(self.runs) - running,
            free_blocks=NUM_BLOCKS - running,
        )

    def _read(self) -> list[TokenEvent]:
        events = []
        for message in self.inbox:
            if isinstance(message, Request):
                assert message.id not in self.runs, "sent twice"
                history = [*message.prompt, *message.generated]
                self.runs[message.id] = ScriptedRun(message, history)
            elif self.runs.pop(message, None) is not None:
                events.append(TokenEvent(id=message, finish="abort"))
        self.inbox.clear()
        return events

    def _advance(self, each: ScriptedRun) -> TokenEvent:
        request, sampling = each.request, each.request.sampling
        token = next_token(each.history, sampling.seed)
        each.history.append(token)
        each.got += 1
        ended = len(each.history) - len(request.prompt) >= sampling.max_tokens
        if ended:
            del self.runs[request.id]
        first, each.heard = not each.heard, True
        return TokenEvent(
            id=request.id,
            tokens=(token,),
            finish="length" if ended else None,
            scheduled_at=1.0 if first else None,
        )


class ScriptedSupervisor:
    """Stands for `EngineSupervisor`."""

    def __init__(self, start: Start, owner: EngineOwner, kv_source: str = "") -> None:
        self.start_message = start
        self.state: EngineState = "starting"
        self.restarts = 0
        self.failure: str | None = None
        self.info: EngineInfo | None = None
        self.engine: ScriptedProcess | None = None
        self.kv_source = kv_source
        self.sources: set[str] = set()
        """What its engines were ever told of where requests were before."""
        self.poisoned = 0
        """How many of its engines died of a request."""
        self._owner = owner
        self._next: asyncio.Future[None] | None = None

    async def start(self) -> None:
        self.revive(restarts=0)

    def discard_cache(self) -> None:
        self.kv_source = ""

    async def next_ready(self) -> None:
        self._next = self._next or asyncio.get_running_loop().create_future()
        await self._next
        if self.state in ("failed", "closed"):
            raise Unavailable(self.failure or "closed")

    async def close(self) -> None:
        self.state, self.engine = "closed", None
        self._tell_next()

    def revive(self, *, restarts: int = 1, adopted: int = 0) -> None:
        """A process is ready, which has adopted so many blocks."""
        self.engine = ScriptedProcess(self)
        self.info = structs.replace(INFO, adopted_blocks=adopted)
        self.restarts += restarts
        self.state = "ready"
        self._owner.on_engine_ready()
        self._tell_next()

    def step(self) -> None:
        if self.engine is not None and not self.engine.step():
            self.poisoned += 1
            self.die()

    def deliver(self) -> None:
        """Let through what the engine has told so far."""
        if self.engine is not None:
            messages, self.engine.outbox = self.engine.outbox, []
            for message in messages:
                self._owner.on_engine_events(message, self.engine)  # type: ignore[arg-type]

    def die(self, process: ScriptedProcess | None = None) -> None:
        """The process is gone, with all that was on the way."""
        if self.engine is not None and process in (None, self.engine):
            self.state, self.engine = "restarting", None
            self._owner.on_engine_died(EngineError("killed by a test"))

    def fail(self) -> None:
        """There will be no process any more."""
        self.die()
        self.state, self.failure = "failed", "it stays down"
        self._owner.on_engine_failed(self.failure)
        self._tell_next()

    def _tell_next(self) -> None:
        waited_for, self._next = self._next, None
        if waited_for is not None and not waited_for.done():
            waited_for.set_result(None)


@dataclass(slots=True)
class ScriptedFleet:
    """A fleet, and the supervisors of its replicas by their ids."""

    fleet: EngineFleet
    engines: list[ScriptedSupervisor]

    def home(self, name: str) -> int:
        """Id of the replica whose journal has a request."""
        (found,) = [
            each.id for each in self.fleet.members if each.client.journal.entry(name) is not None
        ]
        return found

    def settle(self) -> None:
        """What the fleet does when the state of a replica has changed."""
        self.fleet._on_change()

    def present(self) -> list[ScriptedSupervisor]:
        """Those of replicas that are not gone."""
        return [self.engines[each.id] for each in self.fleet.members]

    async def round(self, *, revive: bool = True) -> None:
        """A step of every engine, of which everybody hears; those that died are back after it."""
        await turns()
        down = [each for each in self.present() if each.state == "restarting"]
        for each in self.present():
            each.step()
            each.deliver()
        await turns()
        for each in down if revive else ():
            if each.state == "restarting":
                each.revive()
        await turns()

    async def finish(self) -> None:
        """Rounds until nothing is live, and nothing on the way."""
        for _ in range(3000):
            if not self.fleet.live:
                break
            await self.round()
        for _ in range(3):
            await self.round()
        assert self.fleet.live == 0


async def turns(count: int = 3) -> None:
    """Let the event loop do what is due."""
    for _ in range(count):
        await asyncio.sleep(0)


@asynccontextmanager
async def scripted_fleet(
    replicas: int,
    *,
    router: RouterName = "least-requests",
    roles: Sequence[Role] = (),
    fixed_roles: bool = False,
    keep_kv_cache: bool = False,
) -> AsyncIterator[ScriptedFleet]:
    engines: list[ScriptedSupervisor] = []

    def make(start: Start, _: Sequence[str], owner: EngineOwner) -> ScriptedSupervisor:
        source = f"cache {len(engines)}" if keep_kv_cache else ""
        engines.append(ScriptedSupervisor(start, owner, source))
        return engines[-1]

    with mock.patch("headway.client.client.EngineSupervisor", make):
        fleet = await EngineFleet.start(
            EngineConfig(),
            Path("model"),
            replicas=replicas,
            router=router,
            roles=roles,
            fixed_roles=fixed_roles,
        )
        try:
            yield ScriptedFleet(fleet, engines)
        finally:
            await fleet.close()
