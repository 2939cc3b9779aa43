"""A KV cache's file: laid out once, found again by whoever computes the same and by no other."""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Iterator

import pytest

from headway.ops.native.kept_cache import KeptCache, KeptFile
from headway.ops.native.shared_memory import HUGE_PAGE, PagesAhead, SharedMapping

pytestmark = pytest.mark.skipif(
    not sys.platform.startswith("linux"), reason="files of memory are Linux's"
)
BLOCKS, LAYERS, SIZE = 6, 2, 6 * 2 * 4096
MODEL, OTHER = bytes(64), bytes([1]) * 64
NAME = bytes(range(16))


@pytest.fixture(name="descriptor")
def _descriptor() -> Iterator[int]:
    descriptor = os.memfd_create("test")
    yield descriptor
    os.close(descriptor)


def opened(descriptor: int, fingerprint: bytes = MODEL, size: int = SIZE) -> KeptCache:
    file = KeptFile(descriptor, fingerprint)
    return file.open(num_blocks=BLOCKS, size=size, num_layers=LAYERS)


def contents(cache: KeptCache, size: int = SIZE) -> bytes:
    return ctypes.string_at(cache.address, size)


def test_an_empty_file_becomes_a_cache_of_zeros(descriptor: int) -> None:
    assert KeptFile(descriptor, MODEL).layout() is None
    cache = opened(descriptor)
    assert cache.address % HUGE_PAGE == 0
    assert contents(cache) == bytes(SIZE)
    assert cache.sealed() == []
    assert KeptFile(descriptor, MODEL).layout() == (BLOCKS, SIZE)


def test_the_next_of_the_same_kind_finds_contents_and_seals(descriptor: int) -> None:
    cache = opened(descriptor)
    ctypes.memset(cache.address, 7, SIZE)
    cache.seal(3, NAME, b"")
    del cache
    again = opened(descriptor)
    assert contents(again) == bytes([7]) * SIZE
    assert again.sealed() == [(3, NAME)]
    again.unseal(3)
    assert opened(descriptor).sealed() == []


@pytest.mark.parametrize("change", ["fingerprint", "size", "truncated"])
def test_whoever_computes_otherwise_begins_with_zeros(descriptor: int, change: str) -> None:
    cache = opened(descriptor)
    ctypes.memset(cache.address, 7, SIZE)
    cache.seal(3, NAME, b"")
    del cache
    fingerprint, size = MODEL, SIZE
    if change == "fingerprint":
        fingerprint = OTHER
    elif change == "size":
        size = 2 * SIZE
    else:
        os.ftruncate(descriptor, os.fstat(descriptor).st_size - 4096)
    if change != "size":
        assert KeptFile(descriptor, fingerprint).layout() is None
    other = opened(descriptor, fingerprint, size)
    assert other.sealed() == []
    assert contents(other, size) == bytes(size)


def test_a_header_that_is_torn_is_none(descriptor: int) -> None:
    opened(descriptor)
    whole = os.pread(descriptor, 96, 0)
    for length in (0, 10, 40, 80, 89):
        os.pwrite(descriptor, whole[:length] + bytes(96 - length), 0)
        assert KeptFile(descriptor, MODEL).layout() is None
    os.pwrite(descriptor, whole, 0)
    assert KeptFile(descriptor, MODEL).layout() == (BLOCKS, SIZE)


def test_what_cannot_be_mapped_is_an_error() -> None:
    read, write = os.pipe()
    try:
        with pytest.raises(OSError, match=r".+"):
            opened(write)
    finally:
        os.close(read)
        os.close(write)


def test_pages_are_taken_ahead_and_hold_what_was_written(descriptor: int) -> None:
    size, parts = 8 * HUGE_PAGE, 2
    os.ftruncate(descriptor, size)
    mapping = SharedMapping(descriptor, size)
    mapping.view[:4] = b"data"
    ahead = PagesAhead(mapping, 0, size, parts)
    thread = ahead.reach(HUGE_PAGE)
    assert thread is not None
    thread.join()
    assert ahead.reached >= HUGE_PAGE
    assert ahead.reach(HUGE_PAGE // 2) is None, "it is there already"
    taken = os.fstat(descriptor).st_blocks * 512
    if ahead.reached == HUGE_PAGE:  # else the system makes no huge pages of it
        assert taken == parts * HUGE_PAGE
    assert bytes(mapping.view[:4]) == b"data"
    assert not any(mapping.view[4:4096])


def test_sealing_takes_pages_ahead_of_the_blocks_in_use(
    descriptor: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []

    def reach(ahead: PagesAhead, share: int) -> None:
        asked.append(share)
        ahead._reached = share

    monkeypatch.setattr(PagesAhead, "reach", reach)
    blocks, block_bytes = 64, HUGE_PAGE // 4
    file = KeptFile(descriptor, MODEL)
    cache = file.open(num_blocks=blocks, size=blocks * LAYERS * block_bytes, num_layers=LAYERS)
    for block in range(32):
        cache.seal(block, NAME, b"")
    assert 2 <= len(asked) <= 8, "now and then, not for every block"
    assert asked == sorted(asked)
    assert asked[-1] > 32 * block_bytes
