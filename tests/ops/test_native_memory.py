"""Memory for weights and KV cache: zeroed, aligned, and a file's bytes whichever way they come."""

from __future__ import annotations

import ctypes
import mmap
import platform
import sys
from pathlib import Path

import numpy as np
import pytest

from headway import machine
from headway.ops.native import address, memory


def test_anonymous_memory_is_zero_and_aligned() -> None:
    found = np.frombuffer(memory.anonymous(5_000_001), dtype=np.uint8)
    assert len(found) == 5_000_001
    assert not found.any()
    assert address(found) % 64 == 0


@pytest.mark.parametrize("huge", [False, True])
@pytest.mark.parametrize("available", [10, 10**12])
def test_a_files_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, huge: bool, available: int
) -> None:
    path, content = tmp_path / "file", bytes(range(256)) * 12_345
    path.write_bytes(content)
    monkeypatch.setattr(memory, "has_huge_pages", lambda: huge)
    monkeypatch.setattr(machine, "available_memory", lambda: available)
    found = memory.file_bytes(path)
    assert found[:] == content
    # Only what is read into memory outlives a change of the file.
    with path.open("r+b") as file:
        file.write(b"changed")
    assert (found[:7] == b"changed") == (not huge or available == 10)


def test_an_empty_file_and_none_are_errors(tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    with pytest.raises((OSError, ValueError)):
        memory.file_bytes(tmp_path / "empty")
    with pytest.raises(OSError, match="none"):
        memory.file_bytes(tmp_path / "none")


def test_huge_pages_are_what_the_system_says(tmp_path: Path) -> None:
    switch = tmp_path / "enabled"
    assert not memory.has_huge_pages(switch)
    for text, expected in (("always [madvise] never", True), ("always madvise [never]", False)):
        switch.write_text(text)
        assert memory.has_huge_pages(switch) == expected


def _resident(begin: int, size: int) -> bool:
    pages = (ctypes.c_ubyte * (size // mmap.PAGESIZE))()
    mincore = ctypes.CDLL(None, use_errno=True).mincore
    mincore.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_void_p)
    assert mincore(begin, size, pages) == 0
    return all(page & 1 for page in pages)


@pytest.mark.skipif(
    not sys.platform.startswith("linux")
    or tuple(int(n) for n in platform.release().split(".")[:2]) < (5, 14),
    reason="the system cannot take memory ahead",
)
def test_touching_ahead_takes_the_first_bytes_of_all_parts() -> None:
    part, size = 4 * 2**20, 2**20
    mapped = memory.anonymous(4 * part)
    begin = np.frombuffer(mapped, dtype=np.uint8).ctypes.data
    assert not _resident(begin, size)
    thread = memory.touch_ahead(mapped, begin, parts=4, size=4 * size)
    assert thread is not None
    thread.join()
    assert all(_resident(begin + n * part, size) for n in range(4))
    assert not np.frombuffer(mapped, dtype=np.uint8).any()


@pytest.mark.parametrize(("whole", "parts", "size"), [(8 * 2**20, 4, 2**20), (999_999, 7, 10**9)])
def test_pieces_touched_lie_in_the_memory(whole: int, parts: int, size: int) -> None:
    pieces = list(memory._pieces(whole, parts, size))
    assert len(pieces) == parts
    assert all(begin >= 0 and length > 0 and begin + length <= whole for begin, length in pieces)
    assert all(begin % mmap.PAGESIZE == 0 for begin, _ in pieces)
