"""Blocks are copied from the caches of engines that go on writing them, whole or not at all."""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from headway.ops.native.kept_cache import KeptCache, KeptFile
from headway.ops.native.other_caches import OtherCaches
from headway.ops.protocol import CacheShape

pytestmark = pytest.mark.skipif(
    not sys.platform.startswith("linux"), reason="files of memory are Linux's"
)
LAYERS, BLOCKS, BLOCK_BYTES = 3, 5, 512
MODEL = b"m" * 64
SHAPE = CacheShape(num_layers=LAYERS, num_blocks=BLOCKS, block_size=16, num_kv_heads=1, head_dim=16)
NAMES = [bytes([number]) * 16 for number in range(1, 9)]


def block_of(cache: memoryview, blocks: int, block: int) -> list[bytes]:
    """A block's bytes, by layer."""
    layer_bytes = blocks * BLOCK_BYTES
    starts = [layer * layer_bytes + block * BLOCK_BYTES for layer in range(LAYERS)]
    return [bytes(cache[start : start + BLOCK_BYTES]) for start in starts]


class Elsewhere:
    """Another engine's cache, with more blocks than ours."""

    blocks = 2 * BLOCKS

    def __init__(self, descriptor: int) -> None:
        self.source = f"/proc/self/fd/{descriptor}"
        size = LAYERS * self.blocks * BLOCK_BYTES
        self.file = KeptFile(descriptor, MODEL)
        self.cache: KeptCache = self.file.open(num_blocks=self.blocks, size=size, num_layers=LAYERS)

    def write(self, block: int, value: int) -> None:
        for layer in range(LAYERS):
            at = (layer * self.blocks + block) * BLOCK_BYTES
            ctypes.memset(self.cache.address + at, 10 * value + layer, BLOCK_BYTES)


def contents(value: int) -> list[bytes]:
    return [bytes([10 * value + layer]) * BLOCK_BYTES for layer in range(LAYERS)]


@pytest.fixture(name="other")
def _other() -> Iterator[Elsewhere]:
    descriptor = os.memfd_create("test")
    other = Elsewhere(descriptor)
    for number, block in enumerate((7, 2, 9)):
        other.write(block, number)
        other.cache.seal(block, NAMES[number], NAMES[number - 1] if number else b"")
    yield other
    os.close(descriptor)


@pytest.fixture(name="own")
def _own() -> memoryview:
    return memoryview(bytearray(LAYERS * BLOCKS * BLOCK_BYTES))


@pytest.fixture(name="caches")
def _caches(own: memoryview) -> OtherCaches:
    return OtherCaches(own, MODEL, SHAPE)


def test_blocks_are_found_by_name_and_copied_layer_by_layer(
    other: Elsewhere, own: memoryview, caches: OtherCaches
) -> None:
    assert caches.match(other.source, NAMES) == 3
    assert caches.match(other.source, [NAMES[1], NAMES[5], NAMES[2]]) == 1
    assert caches.load(other.source, NAMES[:3], [4, 0, 1]) == 3
    for number, block in enumerate((4, 0, 1)):
        assert block_of(own, BLOCKS, block) == contents(number)
    for block in (2, 3):
        assert block_of(own, BLOCKS, block) == [bytes(BLOCK_BYTES)] * LAYERS


def test_sources_take_turns(other: Elsewhere, caches: OtherCaches) -> None:
    assert caches.match(other.source, NAMES[:3]) == 3
    assert caches.match("/proc/self/fd/99999", NAMES[:3]) == 0
    assert caches.load(other.source, NAMES[:2], [0, 1]) == 2
    assert caches.load("/proc/self/fd/99999", NAMES[:2], [0, 1]) == 0


def test_what_was_overwritten_since_is_not_copied(
    other: Elsewhere, own: memoryview, caches: OtherCaches
) -> None:
    assert caches.match(other.source, NAMES[:3]) == 3
    other.cache.unseal(2)
    other.write(2, 6)
    other.cache.seal(2, NAMES[6], b"")
    assert caches.load(other.source, NAMES[:3], [0, 1, 2]) == 1
    assert block_of(own, BLOCKS, 0) == contents(0)


@pytest.mark.parametrize("sealed_again", [False, True])
def test_what_is_overwritten_meanwhile_is_not_whole(
    other: Elsewhere, caches: OtherCaches, monkeypatch: pytest.MonkeyPatch, sealed_again: bool
) -> None:
    """Even where the same contents are there in the end."""
    read, reads = os.preadv, []

    def overwriting(*given: Any) -> int:
        reads.append(given)
        if len(reads) == LAYERS + 2:  # in the midst of the second block
            other.cache.unseal(2)
            if sealed_again:
                other.cache.seal(2, NAMES[1], NAMES[0])
        return read(*given)

    monkeypatch.setattr(os, "preadv", overwriting)
    assert caches.match(other.source, NAMES[:3]) == 3
    assert caches.load(other.source, NAMES[:3], [0, 1, 2]) == 1


def test_an_emptied_cache_is_no_danger(other: Elsewhere, caches: OtherCaches) -> None:
    assert caches.match(other.source, NAMES[:3]) == 3
    os.truncate(other.source, 0)
    assert caches.load(other.source, NAMES[:3], [0, 1, 2]) == 0
    assert caches.match(other.source, NAMES[:3]) == 0


def test_a_cache_that_is_emptied_meanwhile_is_no_danger(
    other: Elsewhere, caches: OtherCaches, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = os.preadv

    def emptied(*given: Any) -> int:
        os.truncate(other.source, 0)
        return read(*given)

    assert caches.match(other.source, NAMES[:3]) == 3
    monkeypatch.setattr(os, "preadv", emptied)
    assert caches.load(other.source, NAMES[:3], [0, 1, 2]) == 0


def test_nothing_is_read_of_another_model_or_of_another_file(
    other: Elsewhere, own: memoryview, tmp_path: Path
) -> None:
    assert OtherCaches(own, b"n" * 64, SHAPE).match(other.source, NAMES) == 0
    (tmp_path / "file").write_bytes(bytes(2**16))
    assert OtherCaches(own, MODEL, SHAPE).match(str(tmp_path / "file"), NAMES) == 0
    assert OtherCaches(own, MODEL, SHAPE).match("", NAMES) == 0


def test_a_source_is_looked_at_once_for_many_requests(
    other: Elsewhere, caches: OtherCaches, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened, looks = os.open, []

    def looking(*given: Any) -> int:
        looks.append(given)
        return opened(*given)

    monkeypatch.setattr(os, "open", looking)
    assert caches.match(other.source, NAMES[:3]) == 3
    assert caches.match(other.source, NAMES[:2]) == 2
    assert len(looks) == 1
    other.cache.seal(0, NAMES[3], NAMES[2])
    assert caches.match(other.source, NAMES[:4]) == 4, "what is new there is seen"


@pytest.mark.parametrize("how", ["emptied", "gone", "unsealed"])
def test_what_proved_to_be_gone_is_not_promised_again(
    other: Elsewhere, caches: OtherCaches, how: str
) -> None:
    duplicate = os.open(other.source, os.O_RDWR)
    source = f"/proc/self/fd/{duplicate}"
    try:
        assert caches.match(source, NAMES[:3]) == 3
        if how == "emptied":
            os.truncate(source, 0)
        elif how == "gone":
            os.close(duplicate)
        else:
            other.cache.unseal(7)
        assert caches.load(source, NAMES[:3], [0, 1, 2]) == 0
        assert caches.match(source, NAMES[:3]) == 0
    finally:
        if how != "gone":
            os.close(duplicate)


def test_a_pipe_in_its_place_is_not_waited_for(caches: OtherCaches, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    assert caches.match(str(tmp_path / "pipe"), NAMES) == 0


def test_no_descriptor_stays_open(other: Elsewhere, caches: OtherCaches) -> None:
    before = len(os.listdir("/proc/self/fd"))  # noqa: PTH208
    for _ in range(3):
        caches.match(other.source, NAMES)
        caches.load(other.source, NAMES, list(range(BLOCKS)) + [0] * 3)
    assert len(os.listdir("/proc/self/fd")) == before  # noqa: PTH208
