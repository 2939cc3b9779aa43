"""Kept responses: bounds, tenants, and conversations."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headway.server.responses.store import (
    OVERHEAD,
    ResponseMissing,
    ResponseStore,
    StoredResponse,
)

MOST_ENTRIES = 4
MOST_BYTES = 6 * OVERHEAD
IDS = [f"r{number}" for number in range(8)]
ACTIONS = st.lists(
    st.tuples(
        st.sampled_from(("put", "get", "delete", "chain")),
        st.sampled_from(("", "key-0", "key-1")),
        st.sampled_from(IDS),
        st.integers(0, 7 * OVERHEAD),
    )
)


def entry(name: str, size: int = 0, previous: str | None = None) -> StoredResponse:
    half = size // 2
    items = (f"item-{name}",) if size % 2 else ()
    rest = b"y" * (size - half)
    return StoredResponse(id=name, previous=previous, input=b"x" * half, response=rest, items=items)


def small(**bounds: int) -> ResponseStore:
    given_bounds = {"most_entries": MOST_ENTRIES, "most_bytes": MOST_BYTES} | bounds
    return ResponseStore(**given_bounds)


def has(store: ResponseStore, tenant: str, name: str) -> bool:
    try:
        return store.get(tenant, name).id == name
    except ResponseMissing:
        return False


def with_item(store: ResponseStore, tenant: str, item: str) -> Iterator[StoredResponse]:
    with suppress(ResponseMissing):
        yield store.with_item(tenant, item)


@given(ACTIONS)
def test_each_tenant_has_the_last_used_ones_that_fit(
    actions: list[tuple[str, str, str, int]],
) -> None:
    store = small()
    models: dict[str, list[StoredResponse]] = {"": [], "key-0": [], "key-1": []}
    for action, tenant, name, size in actions:
        model = models[tenant]
        known = [each for each in model if each.id == name]
        if action == "put":
            new = entry(name, size)
            model[:] = [each for each in model if each.id != name]
            if store.put(tenant, new):
                model.append(new)
            else:
                assert new.size > MOST_BYTES
            while len(model) > MOST_ENTRIES or sum(each.size for each in model) > MOST_BYTES:
                del model[0]
        elif action == "delete":
            assert store.delete(tenant, name) == bool(known)
            model[:] = [each for each in model if each.id != name]
        elif known:
            found = store.get(tenant, name) if action == "get" else store.chain(tenant, name)[0]
            assert found == known[0]
            model.remove(found)
            model.append(found)
        else:
            with pytest.raises(ResponseMissing):
                store.get(tenant, name)
    for tenant, model in models.items():
        kept = [name for name in IDS if has(store, tenant, name)]
        assert kept == sorted(each.id for each in model)
        for name in IDS:
            expected = [each for each in model if f"item-{name}" in each.items]
            assert [*with_item(store, tenant, f"item-{name}")] == expected


def test_a_chain_is_the_whole_conversation_and_stays_together() -> None:
    store = small()
    for number in range(3):
        store.put("", entry(f"r{number}", previous=f"r{number - 1}" if number else None))
    store.put("", entry("other"))
    assert [each.id for each in store.chain("", "r2")] == ["r0", "r1", "r2"]
    store.put("", entry("new", previous="r2"))
    assert [each.id for each in store.chain("", "new")] == ["r0", "r1", "r2", "new"]
    assert not has(store, "", "other")


def test_a_chain_with_a_gap_names_what_is_missing() -> None:
    store = small()
    store.put("", entry("r0"))
    store.put("", entry("r1", previous="r0"))
    store.delete("", "r0")
    with pytest.raises(ResponseMissing, match="r0"):
        store.chain("", "r1")


def test_a_chain_ends_at_the_tenant() -> None:
    store = small()
    store.put("key-0", entry("r0"))
    store.put("key-1", entry("r1", previous="r0"))
    with pytest.raises(ResponseMissing, match="r0"):
        store.chain("key-1", "r1")


def test_without_entries_nothing_is_kept() -> None:
    store = small(most_entries=0)
    assert not store.put("", entry("r0"))
    assert not has(store, "", "r0")
