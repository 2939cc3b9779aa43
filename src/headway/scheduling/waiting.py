"""The waiting queue: who is next, so that callers share the slots of the batch fairly.

A *caller* is whoever queues as one, such as all continuations of an HTTP request; callers belong
to *tenants*, such as API keys. Among the waiting of one standing the tenant with the fewest running
sequences is next, of those the one that was served the fewest tokens; within a tenant the same
holds between its callers, but where the policy orders them instead; a caller's own sequences wait
in the policy's order. With one caller that
order is all there is.

A rank changes only when something of its own caller moves, so each move costs a binary search.
Served tokens are counted as in "Fairness in Serving Large Language Models" (Sheng et al., OSDI
2024): whoever begins to wait starts no lower than a virtual time, which grows with what is served
over the number that share it. So nobody saves up, and nobody is passed by newcomers for ever.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Callable, Iterator
from collections.abc import Sequence as Seq
from contextlib import contextmanager
from heapq import heappop, heappush
from itertools import islice
from operator import attrgetter, itemgetter
from typing import Any, Generic, TypeVar, overload

from headway.scheduling.sequence import Sequence

Rank = tuple[float, ...]

_order = attrgetter("order")
_rank = itemgetter(0)


class _Counts:
    """How many members have how many running; knows the greatest number as they change by one."""

    __slots__ = ("_members", "most")

    def __init__(self) -> None:
        self.most = 0
        self._members = [0]

    def more(self, before: int) -> None:
        members = self._members
        if before + 1 == len(members):
            members.append(0)
        members[before] -= 1
        members[before + 1] += 1
        self.most = max(self.most, before + 1)

    def fewer(self, before: int) -> None:
        members = self._members
        members[before] -= 1
        members[before - 1] += 1
        while self.most and not members[self.most]:
            self.most -= 1


class _Caller:
    """Who queues as one."""

    __slots__ = ("name", "rank", "running", "sequences", "served", "tenant")

    def __init__(self, name: str, tenant: _Tenant) -> None:
        self.name = name
        self.tenant = tenant
        self.rank: Rank | None = None
        self.running = 0
        self.served = tenant.members.virtual
        self.sequences: list[Sequence] = []

    def first(self) -> Sequence | None:
        return self.sequences[0] if self.sequences else None


class _Tenant:
    """Callers that share what one tenant gets."""

    __slots__ = ("members", "name", "rank", "running", "served")

    def __init__(self, name: str, served: float) -> None:
        self.name = name
        self.rank: Rank | None = None
        self.running = 0
        self.served = served
        self.members: _Members[_Caller] = _Members()

    def first(self) -> Sequence | None:
        ranked = self.members.ranked
        return ranked[0][1].first() if ranked else None


Member = TypeVar("Member", _Caller, _Tenant)


class _Members(Generic[Member]):
    """Those who share something, by name, and those of them who wait, by rank."""

    __slots__ = ("by_name", "counts", "ranked", "virtual")

    def __init__(self) -> None:
        self.by_name: dict[str, Member] = {}
        self.ranked: list[tuple[Rank, Member]] = []
        self.counts = _Counts()
        self.virtual = 0.0
        """Tokens that each would have been served if all had been served alike."""

    def place(self, member: Member) -> None:
        """Give the member its rank anew, or none if nobody of it waits."""
        if member.rank is not None:
            del self.ranked[bisect_left(self.ranked, member.rank, key=_rank)]
        first = member.first()
        member.rank = None if first is None else rank_of(first, member.running, member.served)
        if member.rank is not None:
            insort(self.ranked, (member.rank, member), key=_rank)

    def serve(self, member: Member, tokens: int) -> None:
        member.served += tokens
        self.virtual += tokens / len(self.by_name)


def rank_of(first: Sequence, running: int, served: float) -> Rank:
    """The rank of a caller or tenant whose first waiting sequence this is."""
    return (*first.standing, running, served, *first.order)


class WaitingQueue(Seq[Sequence]):
    """All waiting sequences in the order in which they are next, and who holds how many slots.

    Iterating supposes that each one that was given is admitted. With `fair` False there is one
    caller only. With `by_order`, callers of one tenant with equally many running come in the
    policy's order, however much they were served.
    """

    def __init__(self, *, fair: bool = True, by_order: bool = False) -> None:
        self._fair = fair
        self._by_order = by_order
        self._tenants: _Members[_Tenant] = _Members()
        self._length = 0

    def __len__(self) -> int:
        return self._length

    def __iter__(self) -> Iterator[Sequence]:
        tenants = self._tenants
        if len(tenants.by_name) == 1:
            (tenant,) = tenants.by_name.values()
            return _of_tenant(tenant)
        return _in_turn(tenants.ranked, _of_tenant)

    def later(self, standing: tuple[float, ...]) -> Iterator[Sequence]:
        """As iterating, of callers whose first waiting sequence has this standing or a later one.

        It costs a binary search for each tenant.
        """

        def of_tenant(tenant: _Tenant) -> Iterator[Sequence]:
            return _of_tenant(tenant, standing)

        ranked = []
        for tenant in self._tenants.by_name.values():
            first = next(of_tenant(tenant), None)
            if first is not None:
                ranked.append((rank_of(first, tenant.running, tenant.served), tenant))
        ranked.sort(key=_rank)
        return _in_turn(ranked, of_tenant)

    @overload
    def __getitem__(self, index: int) -> Sequence: ...
    @overload
    def __getitem__(self, index: slice) -> list[Sequence]: ...
    def __getitem__(self, index: int | slice) -> Sequence | list[Sequence]:
        if index == 0 and self._length:
            first = self._tenants.ranked[0][1].first()
            assert first is not None, "whoever is ranked has somebody who waits"
            return first
        return list(self)[index]

    def add(self, seq: Sequence) -> None:
        """It arrives."""
        caller = self._caller_of(seq) or self._new_caller(seq)
        self._enqueue(caller, seq)

    def remove(self, seq: Sequence) -> None:
        """It ends without having run, or without running again."""
        caller = self._known(seq)
        self._dequeue(caller, seq)
        self._forget(caller)

    def admit(self, seq: Sequence) -> None:
        """It runs from now on."""
        caller = self._known(seq)
        tenant = caller.tenant
        tenant.members.counts.more(caller.running)
        self._tenants.counts.more(tenant.running)
        caller.running += 1
        tenant.running += 1
        self._dequeue(caller, seq)
        if caller.name and not seq.answering:
            # What comes of one caller at one time is one request.
            for other in caller.sequences:
                if other.arrival == seq.arrival:
                    other.answering = True

    def leave(self, seq: Sequence, served: int, *, again: bool) -> None:
        """It runs no more, after so many computed tokens; `again` says that it waits instead."""
        caller = self._known(seq)
        tenant = caller.tenant
        tenant.members.counts.fewer(caller.running)
        self._tenants.counts.fewer(tenant.running)
        caller.running -= 1
        tenant.running -= 1
        if not self._by_order:
            tenant.members.serve(caller, served)
        self._tenants.serve(tenant, served)
        if again:
            self._enqueue(caller, seq)
        else:
            self._place(caller)
            self._forget(caller)

    @contextmanager
    def moved(self, seq: Sequence) -> Iterator[None]:
        """The order of a waiting sequence changes within the block."""
        caller = self._known(seq)
        del caller.sequences[bisect_left(caller.sequences, seq.order, key=_order)]
        yield
        insort(caller.sequences, seq, key=_order)
        self._place(caller)

    def sort(self) -> None:
        """The sequences' order has changed."""
        for tenant in self._tenants.by_name.values():
            for caller in tenant.members.by_name.values():
                caller.sequences.sort(key=_order)
                self._place(caller)

    def claim(self, seq: Sequence) -> tuple[float, ...]:
        """Its standing and how many run of its tenant and of its caller: the more, the less it may
        take from others. All claims are equal where there is one caller only."""
        caller = self._known(seq)
        return (*seq.standing, caller.tenant.running, caller.running) if self._fair else ()

    def owes(self, other: Sequence, first: Sequence) -> bool:
        """Whether `other`, which runs, takes more than its share while `first` waits.

        So it is if its tenant holds two slots more than the other's, or, of one tenant, its caller:
        then it has no fewer than the other one once a slot has changed hands.
        """
        holder, waiter = self._known(other), self._known(first)
        if holder.tenant is not waiter.tenant:
            return holder.tenant.running >= waiter.tenant.running + 2
        return holder.running >= waiter.running + 2

    def anyone_owes(self, first: Sequence) -> bool:
        """Whether some tenant or caller takes more than its share while `first` waits; cheap."""
        waiter = self._known(first)
        most_of_tenant = waiter.tenant.members.counts.most
        return (
            self._tenants.counts.most >= waiter.tenant.running + 2
            or most_of_tenant >= waiter.running + 2
        )

    def check(self) -> None:
        """Raise `AssertionError` if ranks are out of date or a queue is unsorted."""
        waiting = 0
        levels: list[_Members[Any]] = [self._tenants]
        levels += [tenant.members for tenant in self._tenants.by_name.values()]
        for members in levels:
            ranks = [rank for rank, _ in members.ranked]
            _assert(ranks == sorted(ranks), "a queue is unsorted")
            for member in members.by_name.values():
                first = member.first()
                rank = None if first is None else rank_of(first, member.running, member.served)
                _assert(member.rank == rank, "a rank is out of date")
            most = max((member.running for member in members.by_name.values()), default=0)
            _assert(members.counts.most == most, "the greatest number held is wrong")
        for tenant in self._tenants.by_name.values():
            for caller in tenant.members.by_name.values():
                waiting += len(caller.sequences)
                ordered = sorted(caller.sequences, key=_order)
                _assert(caller.sequences == ordered, "the waiting queue is unsorted")
                _assert(bool(caller.sequences or caller.running), "a caller is kept for nothing")
        _assert(waiting == self._length, "a waiting sequence is lost")

    def _enqueue(self, caller: _Caller, seq: Sequence) -> None:
        if not caller.sequences:
            caller.served = max(caller.served, caller.tenant.members.virtual)
            if not caller.tenant.members.ranked:
                caller.tenant.served = max(caller.tenant.served, self._tenants.virtual)
        insort(caller.sequences, seq, key=_order)
        self._length += 1
        self._place(caller)

    def _dequeue(self, caller: _Caller, seq: Sequence) -> None:
        del caller.sequences[bisect_left(caller.sequences, seq.order, key=_order)]
        self._length -= 1
        self._place(caller)

    def _place(self, caller: _Caller) -> None:
        caller.tenant.members.place(caller)
        self._tenants.place(caller.tenant)

    def _caller_of(self, seq: Sequence) -> _Caller | None:
        names = (seq.tenant, seq.request.caller) if self._fair else ("", "")
        tenant = self._tenants.by_name.get(names[0])
        return None if tenant is None else tenant.members.by_name.get(names[1])

    def _known(self, seq: Sequence) -> _Caller:
        caller = self._caller_of(seq)
        assert caller is not None, "a live sequence has a caller"
        return caller

    def _new_caller(self, seq: Sequence) -> _Caller:
        names = (seq.tenant, seq.request.caller) if self._fair else ("", "")
        tenants = self._tenants
        tenant = tenants.by_name.get(names[0])
        if tenant is None:
            tenant = tenants.by_name[names[0]] = _Tenant(names[0], tenants.virtual)
        caller = tenant.members.by_name[names[1]] = _Caller(names[1], tenant)
        return caller

    def _forget(self, caller: _Caller) -> None:
        """Forget who has nothing here any more."""
        tenant = caller.tenant
        if not caller.sequences and not caller.running:
            del tenant.members.by_name[caller.name]
            if not tenant.members.by_name:
                del self._tenants.by_name[tenant.name]


def _in_turn(
    ranked: list[tuple[Rank, Member]], sequences_of: Callable[[Member], Iterator[Sequence]]
) -> Iterator[Sequence]:
    """What waits of all members: each time the next one, if those before it are admitted."""
    asked: list[_Asked[Member]] = []
    for rank, member in ranked:
        while asked and asked[0][0] < rank:
            yield asked[0][1]
            _ask_again(asked)
        rest = sequences_of(member)
        yield next(rest)
        _ask(asked, member, 1, rest)
    while asked:
        yield asked[0][1]
        _ask_again(asked)


_Asked = tuple[Rank, Sequence, Member, int, Iterator[Sequence]]
"""The rank of a member of whom so many were given, its first of the others, and the rest."""


def _ask(asked: list[_Asked[Member]], member: Member, given: int, rest: Iterator[Sequence]) -> None:
    first = next(rest, None)
    if first is not None:
        rank = rank_of(first, member.running + given, member.served)
        heappush(asked, (rank, first, member, given, rest))


def _ask_again(asked: list[_Asked[Member]]) -> None:
    _, _, member, given, rest = heappop(asked)
    _ask(asked, member, given + 1, rest)


def _of_caller(caller: _Caller) -> Iterator[Sequence]:
    return iter(caller.sequences)


def _of_tenant(tenant: _Tenant, standing: tuple[float, ...] = ()) -> Iterator[Sequence]:
    callers = tenant.members
    if len(callers.by_name) == 1:
        (caller,) = callers.by_name.values()
        sequences = caller.sequences
        return islice(sequences, bisect_left(sequences, standing, key=_order), None)
    return _in_turn(callers.ranked[bisect_left(callers.ranked, standing, key=_rank) :], _of_caller)


def _assert(true: bool, broken: str) -> None:
    if not true:
        raise AssertionError(broken)
