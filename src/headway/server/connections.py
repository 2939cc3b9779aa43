"""How many connections may be open: in all, from one address, and with the descriptors there are.

A connection from which the server waits for bytes can be closed when room is needed, the one that
has been silent for longest first; one whose request is being answered is never closed for that. So
idle connections, however many, keep nobody out. Only where every connection is being answered is a
new one too many: a few of those are still read, since they may be probes (`PROBES`), and the rest
are refused. This module knows neither sockets nor HTTP.
"""

from __future__ import annotations

import ipaddress
from collections import Counter
from pathlib import Path
from typing import Protocol

PROBE_CONNECTIONS = 16
"""Connections beyond the bound, on which only probes are answered."""
PROBES = frozenset(("/health", "/ready", "/metrics"))
RESERVED_DESCRIPTORS = 40
"""For the engine, its restarts, the model's files, and those connections beyond the bound."""
FEWEST_CONNECTIONS = 4


class Evictable(Protocol):
    """A connection that can be closed at once, as its client owes the next bytes."""

    place: Place

    def evict(self) -> None: ...


class Place:
    """A connection's part in the counts, from its acceptance until `leave`."""

    def __init__(self, connections: Connections, address: str, *, over: bool) -> None:
        self.address = address
        self.over = over
        """It is beyond the bound: only probes are answered on it."""
        self._connections: Connections | None = connections

    def leave(self) -> None:
        """The connection is closed; harmless when it was said before."""
        if self._connections is not None:
            self._connections.remove(self)
            self._connections = None

    def wait(self, connection: Evictable) -> None:
        """The client owes the next bytes; said again whenever some have come."""
        if self._connections is not None:
            waiting = self._connections.waiting
            waiting.pop(connection, None)
            waiting[connection] = None

    def stop_waiting(self, connection: Evictable) -> None:
        if self._connections is not None:
            self._connections.waiting.pop(connection, None)


class Connections:
    """All open connections. For one event loop; there are no locks."""

    def __init__(self, most: int, most_per_address: int) -> None:
        self.most = most
        self.most_per_address = most_per_address
        self.open = 0
        self.waiting: dict[Evictable, None] = {}
        """Those whose clients owe bytes, the longest silent first."""
        self._by_address: Counter[str] = Counter()

    def enter(self, address: str) -> Place | None:
        """A place for a new connection, at the cost of a silent one if need be; None: no room.

        `address` is empty where the transport has none (Unix sockets).
        """
        near = address_group(address)
        if near and self._by_address[near] >= self.most_per_address and not self._evict(near):
            return None
        over = self.open >= self.most and not self._evict(None)
        if self.open >= self.most + PROBE_CONNECTIONS:
            return None
        self.open += 1
        self._by_address[near] += 1
        return Place(self, near, over=over)

    def remove(self, place: Place) -> None:
        self.open -= 1
        self._by_address[place.address] -= 1
        if not self._by_address[place.address]:
            del self._by_address[place.address]

    def make_room(self) -> bool:
        """Close the connection that has been silent for longest; False where there is none."""
        return self._evict(None)

    def _evict(self, address: str | None) -> bool:
        for connection in self.waiting:
            if address is None or connection.place.address == address:
                place = connection.place
                place.stop_waiting(connection)
                connection.evict()
                place.leave()
                return True
        return False


def address_group(address: str) -> str:
    """What counts as one address: in IPv6 a /64, which one client has to itself."""
    if ":" not in address:
        return address
    try:
        whole = ipaddress.IPv6Address(address.partition("%")[0])
    except ValueError:
        return address
    if whole.ipv4_mapped is not None:
        return str(whole.ipv4_mapped)
    return whole.exploded[:19]


def connection_bound(most: int) -> int:
    """`most`, or as many as the process may have descriptors for.

    Raises the process's soft limit on descriptors as far as it has to and its hard limit lets it.
    """
    try:
        import resource
    except ImportError:  # No such limits on this platform.
        return most
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    used = _used_descriptors() + RESERVED_DESCRIPTORS
    if soft == resource.RLIM_INFINITY or soft >= most + used:
        return most
    wanted = most + used if hard == resource.RLIM_INFINITY else min(hard, most + used)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
        soft = wanted
    except (OSError, ValueError):
        pass
    return max(FEWEST_CONNECTIONS, min(most, soft - used))


def _used_descriptors() -> int:
    try:
        return sum(1 for _ in Path("/proc/self/fd").iterdir())
    except OSError:
        return 32
