"""Responses that are kept, so that later ones can go on from them.

Each tenant has a share of its own, bounded in entries and in bytes: no tenant sees or displaces
what another keeps. Of a full share the entries go that were used longest ago. Everything is in
memory, and gone when the server stops.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass

OVERHEAD = 512
"""Bytes that an entry counts besides its texts."""
ITEM_OVERHEAD = 256
"""Bytes that it counts for each of its items."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredResponse:
    """A response that has ended, as JSON."""

    id: str
    previous: str | None
    """The response that it went on from."""
    input: bytes
    """The list of its own input items."""
    response: bytes
    items: tuple[str, ...] = ()
    """The ids of the items in the response."""

    @property
    def size(self) -> int:
        """Bytes."""
        names = ITEM_OVERHEAD * len(self.items)
        return OVERHEAD + names + len(self.input) + len(self.response)


class ResponseMissing(KeyError):
    """What is not kept, by its id: never was, was deleted, or had to make room."""


class _Share:
    """What one tenant keeps, that used longest ago first."""

    def __init__(self) -> None:
        self.entries: OrderedDict[str, StoredResponse] = OrderedDict()
        self.places: dict[str, str] = {}
        """In which response each item is."""
        self.size = 0

    def add(self, entry: StoredResponse) -> None:
        self.entries[entry.id] = entry
        self.places.update(dict.fromkeys(entry.items, entry.id))
        self.size += entry.size

    def remove(self, response_id: str) -> StoredResponse | None:
        found = self.entries.pop(response_id, None)
        if found is not None:
            self.size -= found.size
            for item in found.items:
                del self.places[item]
        return found


class ResponseStore:
    """Kept responses of all tenants. May be used from any thread."""

    def __init__(self, *, most_entries: int, most_bytes: int) -> None:
        """Both bounds are for each tenant. With 0 entries nothing is kept."""
        self.most_entries = most_entries
        self.most_bytes = most_bytes
        self._shares: dict[str, _Share] = {}
        self._lock = threading.Lock()

    def put(self, tenant: str, entry: StoredResponse) -> bool:
        """Keep a response; false where it is larger than a whole share, or nothing is kept."""
        with self._lock:
            share = self._shares.setdefault(tenant, _Share())
            share.remove(entry.id)
            if entry.size > self.most_bytes or not self.most_entries:
                return False
            share.add(entry)
            while len(share.entries) > self.most_entries or share.size > self.most_bytes:
                share.remove(next(iter(share.entries)))
            return True

    def get(self, tenant: str, response_id: str) -> StoredResponse:
        """Raises `ResponseMissing`."""
        with self._lock:
            return self._used(tenant, response_id)

    def with_item(self, tenant: str, item_id: str) -> StoredResponse:
        """The response that has this item. Raises `ResponseMissing`."""
        with self._lock:
            share = self._shares.get(tenant)
            if share is None or item_id not in share.places:
                raise ResponseMissing(item_id)
            return self._used(tenant, share.places[item_id])

    def delete(self, tenant: str, response_id: str) -> bool:
        """Whether there was one."""
        with self._lock:
            share = self._shares.get(tenant)
            return share is not None and share.remove(response_id) is not None

    def chain(self, tenant: str, response_id: str) -> list[StoredResponse]:
        """A response and all that it went on from, the earliest first.

        All of them count as used, the earliest last: a conversation loses its end before its
        beginning. Raises `ResponseMissing` with the first that is not there.
        """
        with self._lock:
            return [*self._backwards(tenant, response_id)][::-1]

    def _backwards(self, tenant: str, response_id: str | None) -> Iterator[StoredResponse]:
        while response_id is not None:
            found = self._used(tenant, response_id)
            yield found
            response_id = found.previous

    def _used(self, tenant: str, response_id: str) -> StoredResponse:
        share = self._shares.get(tenant)
        if share is None or response_id not in share.entries:
            raise ResponseMissing(response_id)
        share.entries.move_to_end(response_id)
        return share.entries[response_id]
