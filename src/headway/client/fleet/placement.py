"""Which replica has which request: where a new one goes, and who moves when something changes.

A request lives in the journal of one replica's client. To move it, its entry leaves that journal
and joins another one's, and its stream gets its events from there from then on; it goes on after
the tokens that it has. Probation and quarantine are each journal's own, and the fleet keeps clear
of a replica that has such requests: they stay where they are as long as they can, so that what
kills engines kills one, and all others go elsewhere. Where replicas have roles, a request whose
prompt is computed moves to the replica that is to generate its answer. Knows no processes and waits
for nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import NamedTuple

from headway.client.fleet.member import FleetMember
from headway.client.handle import Stream
from headway.client.journal import JournalEntry, remaining_request
from headway.errors import InvalidRequest, Unavailable
from headway.routing import RequestShape, RoleRouter
from headway.types import Request, TokenEvent


class Home(NamedTuple):
    """Where a live request is, and as what it is counted there."""

    replica: FleetMember
    shape: RequestShape


class Placement:
    """For one event loop. `replicas` are those that are up or were, in the order of their ids."""

    def __init__(self, router: RoleRouter, shape_of: Callable[[Request], RequestShape]) -> None:
        self.replicas: list[FleetMember] = []
        self._router = router
        self._shape_of = shape_of
        self._homes: dict[str, Home] = {}

    def __len__(self) -> int:
        return len(self._homes)

    def find(self, replica: int) -> FleetMember:
        """The replica with an id; raises `InvalidRequest` where there is none."""
        for each in self.replicas:
            if each.id == replica:
                return each
        known = ", ".join(str(each.id) for each in self.replicas)
        raise InvalidRequest(f"there is no replica {replica}; there are {known}", field="replica")

    def home(self, request_id: str) -> FleetMember | None:
        """Who has a request; None for one that is unknown or has ended."""
        home = self._homes.get(request_id)
        return None if home is None else home.replica

    def submit(self, requests: Sequence[Request], stream: Stream) -> None:
        """Give new requests to replicas; those of one group, which share a prompt, to the same.

        Raises `InvalidRequest` for an id that is in use, and `Unavailable` where no replica is
        alive; nothing is submitted then.
        """
        ids = [request.id for request in requests]
        for position, name in enumerate(ids):
            if name in self._homes or name in ids[:position]:
                raise InvalidRequest(
                    f"a request with the id '{name}' is running already", field="request_id"
                )
        targets = self._targets()
        target, group = targets[0], ""
        for request in requests:
            shape = self._shape_of(request)
            if not request.group or request.group != group:
                target, group = self._choose(shape, targets), request.group
            entry = JournalEntry(request=request, tokens=list(request.generated))
            self._place(entry, stream, shape, target)

    def ended(self, request_id: str) -> None:
        """A request has ended or was taken away; unknown ones are ignored."""
        home = self._homes.pop(request_id, None)
        if home is not None:
            home.replica.view.ended(home.shape)

    def hand_over(self, source: FleetMember, events: Iterable[TokenEvent]) -> int:
        """Move requests whose prompt a replica has just computed to those that generate answers.

        `events` is what it has told. Who is on probation stays, and nobody is moved to a replica
        that has such requests. Returns how many were moved.
        """
        targets = [each for each in self.replicas if each is source or each.accepting]
        if not source.open or len(targets) == 1:
            return 0
        place, views = targets.index(source), [each.view for each in targets]
        moved = 0
        for event in events:
            if not event.tokens or event.finish is not None:
                continue
            home = self._homes.get(event.id)
            entry = source.client.journal.entry(event.id)
            # Only with its first tokens: whoever stays then, or has come back, stays.
            if home is None or entry is None or entry.accused or home.shape.begun:
                continue
            if len(entry.tokens) > len(event.tokens):
                continue
            shape = self._moved_shape(entry, source)
            chosen = self._router.decoder(shape, place, views)
            if chosen != place:
                self._move_to(entry, shape, source, targets[chosen])
                moved += 1
        source.handed_over += moved
        return moved

    def go_on(self, ids: Sequence[str]) -> bool:
        """Whether each of these has got a token where it is now, or has ended."""
        homes = ((name, self.home(name)) for name in ids)
        return all(home is None or home.client.journal.goes_on(name) for name, home in homes)

    def settle(self) -> int:
        """Give requests away that cannot go on where they are while others can have them.

        To be called whenever a replica's state has changed. Returns how many were moved.
        """
        moved = 0
        for each in self.replicas:
            if not each.open:
                moved += self._clear(each)
        # One that has just got suspects isolates them, so others should not wait for that.
        for each in self.replicas:
            if each.client.journal.isolating:
                moved += self._clear(each)
        return moved + self.balance()

    def balance(self) -> int:
        """Give those replicas something to do that have nothing while others have some waiting.

        Half of what waits goes to each; what has begun stays. Returns how many were moved.
        """
        ready = [each for each in self.replicas if each.accepting]
        moved = 0
        for idle in ready:
            if idle.client.live or not self._router.may_take_prompts(idle.view):
                continue
            donor = max(ready, key=lambda each: each.client.stats.waiting)
            waiting = donor.client.stats.waiting
            if not waiting:
                break
            names = donor.client.journal.unheard[-waiting:]
            moved += self._move(names[: (len(names) + 1) // 2], donor, [idle])
        return moved

    def _clear(self, source: FleetMember) -> int:
        """Move what a replica that is not open should not keep."""
        journal = source.client.journal
        names = journal.unsuspected if source.awaited else journal.ids
        targets = self._takers(source) if names else []
        innocent = set(journal.unsuspected)
        suspects = [name for name in names if name not in innocent]
        if not suspects or not targets:
            return self._move(names, source, targets)
        # Together in one place, so that they hold up nobody else, and kill nobody else.
        apart = min(targets, key=lambda each: each.client.live)
        rest = [each for each in targets if each is not apart] or targets
        moved = self._move([name for name in names if name in innocent], source, rest)
        return moved + self._move(suspects, source, [apart])

    def _move(
        self, names: Sequence[str], source: FleetMember, targets: Sequence[FleetMember]
    ) -> int:
        """Move live requests; nothing happens where there is nobody to move them to."""
        count = 0
        for name in names if targets else ():
            entry = source.client.journal.entry(name)
            assert entry is not None, "only live requests move"
            shape = self._moved_shape(entry, source)
            self._move_to(entry, shape, source, self._choose(shape, targets))
            count += 1
        return count

    def _move_to(
        self, entry: JournalEntry, shape: RequestShape, source: FleetMember, target: FleetMember
    ) -> None:
        name = entry.request.id
        source.view.ended(self._homes[name].shape)
        _, stream = source.client.give(name)
        # Its tokens are loaded from there, or else computed like a prompt.
        entry.kv_source = _kv_source(entry, source)
        self._place(entry, stream, shape, target)

    def _moved_shape(self, entry: JournalEntry, source: FleetMember) -> RequestShape:
        """What a request that leaves a replica is to the others."""
        shape = self._shape_of(remaining_request(entry))
        if not shape.begun or not _kv_source(entry, source):
            return shape
        block_size = source.client.info.scheduler.block_size
        loaded = (shape.prompt_tokens - 1) // block_size * block_size
        return replace(shape, loaded_tokens=loaded)

    def _place(
        self, entry: JournalEntry, stream: Stream, shape: RequestShape, target: FleetMember
    ) -> None:
        target.view.sent(shape)
        self._homes[entry.request.id] = Home(target, shape)
        target.client.receive(entry, stream)

    def _targets(self) -> list[FleetMember]:
        """Who may get a new request: those that run it now, else those that will."""
        found = [each for each in self.replicas if each.accepting]
        found = found or [each for each in self.replicas if each.open]
        found = found or [each for each in self.replicas if each.alive and not each.resting]
        found = found or [each for each in self.replicas if each.alive]
        if not found:
            reasons = {each.client.failure for each in self.replicas}
            why = "; ".join(sorted(reason for reason in reasons if reason))
            raise Unavailable(f"no replica is left: {why or 'all are ending'}")
        return found

    def _takers(self, source: FleetMember) -> list[FleetMember]:
        """Who may get what a replica cannot keep; where that cannot even wait, also those that
        should get no more, and those that are down."""
        others = [each for each in self.replicas if each is not source]
        found = [each for each in others if each.accepting]
        if not found and not source.awaited:
            found = [each for each in others if each.open]
        if not found and not source.alive:
            found = [each for each in others if each.alive]
        return found

    def _choose(self, shape: RequestShape, targets: Sequence[FleetMember]) -> FleetMember:
        if len(targets) == 1:
            return targets[0]
        return targets[self._router.choose(shape, [each.view for each in targets])]


def _kv_source(entry: JournalEntry, source: FleetMember) -> str:
    """Where others find what a replica has computed of a request; "" for nowhere."""
    return "" if entry.accused else source.client.kv_source
