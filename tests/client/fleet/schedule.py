"""What can happen to a fleet, step by step, and what must be so at the end of it."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from dataclasses import replace
from typing import Any

from headway.client.journal import PROGRESS_TOKENS, QUARANTINE_DEATHS, RequestJournal
from headway.errors import HeadwayError
from tests.client.fake_engine import POISON
from tests.client.fleet.readers import Readers
from tests.client.fleet.scripted import ScriptedFleet, turns
from tests.client.support import request

ACTIONS = (
    "submit", "submit", "abort", "cancel", "step", "step", "step", "deliver", "deliver", "turn",
    "read", "kill", "revive", "drain", "join", "restart", "lose",
)  # fmt: skip
POISON_ACTIONS = ("poison", "poison")
KEEPING = tuple({*ACTIONS} - {"drain", "restart", "lose"})
"""Without those that take requests away from an engine that would be back soon."""


def may_be_killed(journal: RequestJournal) -> bool:
    """Whether nobody would be blamed for a death that was nobody's fault.

    One who is alone in an engine that dies, again, is guilty as far as anybody can know.
    """
    running = [each for each in map(journal.entry, journal.ids) if each and each.submitted]
    alone = len(running) == 1 and running[0].deaths >= QUARANTINE_DEATHS
    return not journal.isolating and not alone


class Schedule:
    """Does to a fleet what Hypothesis has drawn, and keeps what it may not forget."""

    def __init__(self, scripted: ScriptedFleet, *, poison: int = 0, fuses: tuple[int, ...] = (0,)):
        """Up to so many requests will kill engines, after as many tokens as `fuses` say."""
        self.scripted = scripted
        self.poison: dict[str, int] = {}
        """Requests that kill engines, and after how many tokens."""
        self._poison, self._fuses = poison, fuses
        self.fleet = scripted.fleet
        self.readers = Readers(scripted.fleet)
        self.tasks: list[asyncio.Task[Any]] = []

    async def do(self, action: str, number: int) -> None:
        names = list(self.readers.requests)
        name = names[number % len(names)] if names else ""
        match action:
            case "submit":
                self._submit(number)
            case "poison" if len(self.poison) < self._poison:
                self._submit_poison(number)
            case "abort" if name and name not in self.readers.cancelled:
                self.readers.abort(name)
            case "cancel" if name:
                self.readers.cancel(name)
            case "turn":
                await turns(1)
            case "read":
                self.readers.take()
            case _:
                self._do_to_engine(action, number)

    def _do_to_engine(self, action: str, number: int) -> None:
        members = self.fleet.members
        member = members[number % len(members)]
        engine = self.scripted.engines[member.id]
        match action:
            case "step":
                engine.step()
            case "deliver":
                engine.deliver()
            case "kill" if may_be_killed(member.client.journal):
                engine.die()
            case "revive" if engine.state == "restarting":
                engine.revive()
            case "drain":
                self._begin(self.fleet.drain(member.id))
            case "join" if len(members) < 4:
                self._begin(self.fleet.add_replica())
            case "lose" if engine.state == "restarting":
                member.overdue = True
                self.scripted.settle()
            case "restart" if not self.tasks:
                self._begin(self.fleet.restart())
            case _:
                pass

    def _submit(self, number: int) -> None:
        made = [
            replace(
                request(
                    f"r{len(self.readers.requests) + each}",
                    (5, 6, number % 50),
                    max_tokens=1 + number % 9,
                    arrival=float(len(self.readers.requests)),
                ),
                group=f"g{number}" if number % 2 else "",
            )
            for each in range(1 + number % 3)
        ]
        self.readers.submit(*made)

    def _submit_poison(self, number: int) -> None:
        fuse = self._fuses[number % len(self._fuses)]
        made = request(
            f"poison{len(self.poison)}",
            (5, POISON, fuse),
            max_tokens=100 + 8 * fuse,
            arrival=float(len(self.readers.requests)),
        )
        self.poison[made.id] = fuse
        self.readers.submit(made)

    def _begin(self, work: Coroutine[Any, Any, Any]) -> None:
        self.tasks.append(asyncio.ensure_future(work))

    async def finish(self) -> None:
        """Let everything come to its end, and see that nothing is left of it."""
        await turns()
        await self.scripted.finish()
        while not all(each.done() for each in self.tasks):
            await self.scripted.round()
        for outcome in await asyncio.gather(*self.tasks, return_exceptions=True):
            # Such as to drain the last one.
            assert not isinstance(outcome, BaseException) or isinstance(outcome, HeadwayError)
        heard = self.readers.listened
        ended = [name for name in self.poison if heard[name].ends == ["error"]]
        self.readers.check(poison=ended)
        for name, fuse in self.poison.items():
            # One that kills late may come to its end before it is found.
            assert heard[name].ends != ["length"] or fuse >= PROGRESS_TOKENS
        assert self.readers.steps == sorted(self.readers.steps)
        check_clean(self.scripted)


def check_clean(scripted: ScriptedFleet) -> None:
    """No request is left anywhere, nor counted."""
    for each in scripted.fleet.members:
        journal = each.client.journal
        assert (len(journal), journal.engine_busy, journal.isolating) == (0, False, False)
        assert (each.view.requests, each.view.decodes, each.view.held) == (0, 0, 0)
        engine = scripted.engines[each.id].engine
        assert (engine is None) == (each.client.state == "failed")
        assert engine is None or not engine.runs
    stats = scripted.fleet.stats
    assert (stats.running, stats.waiting) == (0, 0)
