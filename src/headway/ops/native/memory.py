"""Memory of weights and KV cache, in huge pages where the system gives them.

The kernels stream through both, and with small pages a good part of that time goes into finding
pages (weights come about a third faster from huge ones). The operating system gives none for a
mapped file, so weights are read into memory of our own, unless they would fill too much of it; then
they stay mapped and may be dropped and read again.
"""

from __future__ import annotations

import contextlib
import ctypes
import logging
import mmap
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from headway import machine
from headway.errors import InvalidRequest
from headway.native import Library, abi
from headway.ops.native.kept_cache import KeptCache, KeptFile
from headway.ops.protocol import CacheShape

logger = logging.getLogger(__name__)

_HUGE_PAGES = Path("/sys/kernel/mm/transparent_hugepage/enabled")
_PIECE = 2**21
_POPULATE = 23
"""MADV_POPULATE_WRITE, which Python does not name."""
_SHARE = 0.5
"""Of the available memory, that weights may fill for good."""


def address(array: npt.NDArray[Any]) -> int:
    """Where an array's memory starts; the caller keeps the array."""
    return array.ctypes.data


def anonymous(size: int) -> mmap.mmap:
    """So many zero bytes that take memory only as they are written; raises `OSError`."""
    memory = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    if hasattr(mmap, "MADV_HUGEPAGE"):
        with contextlib.suppress(OSError):  # a kernel without huge pages does as well
            memory.madvise(mmap.MADV_HUGEPAGE)
    return memory


def touch_ahead(memory: mmap.mmap, begin: int, parts: int, size: int) -> threading.Thread | None:
    """Have the first `size` bytes of `memory`, seen as equal parts, taken now and not when written.

    `begin` is the memory's address. A thread of lowest priority does it piece by piece, the first
    pieces of all parts first, since taking a fresh page may cost a virtual machine more than what
    is then written to it. None where the system cannot do it.
    """
    if not hasattr(mmap, "MADV_HUGEPAGE"):
        return None
    advise = ctypes.CDLL(None).madvise
    advise.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)

    def run(kept: mmap.mmap) -> None:
        with contextlib.suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), 19)
        for offset, length in _pieces(len(kept), parts, size):
            if advise(begin + offset, length, _POPULATE):
                return  # an older kernel, or memory has become scarce: then it is taken as written

    thread = threading.Thread(target=run, args=(memory,), name="touch-ahead", daemon=True)
    thread.start()
    return thread


def _pieces(whole: int, parts: int, size: int) -> Iterator[tuple[int, int]]:
    """Offsets and lengths, on page boundaries, of the first `size` bytes in all parts together."""
    stride = whole // parts
    share = min(size // parts, stride)
    for done in range(0, share, _PIECE):
        for start in range(0, parts * stride, stride):
            begin = (start + done) // mmap.PAGESIZE * mmap.PAGESIZE
            yield begin, start + min(done + _PIECE, share) - begin


def file_bytes(path: Path) -> mmap.mmap:
    """A file's bytes, to be read only; raises `OSError`, or `ValueError` where it is empty."""
    size = path.stat().st_size
    with path.open("rb") as file:
        if not has_huge_pages() or size > _SHARE * machine.available_memory():
            return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        memory = anonymous(size)
        if file.readinto(memory) != size:
            raise OSError(f"{path}: changed while it was read")
        return memory


def has_huge_pages(switch: Path = _HUGE_PAGES) -> bool:
    """Whether the system gives huge pages to those that ask for them."""
    try:
        return "[never]" not in switch.read_text()
    except OSError:
        return False


def cache_bytes(library: Library, shape: CacheShape, kind: abi.CacheKind) -> int:
    """Bytes of a KV cache; raises `InvalidRequest` for one that the kernels cannot have."""
    size: int = library.hw_cache_bytes(ctypes.byref(_cache(shape, kind)))
    if size < 0:
        raise InvalidRequest(
            f"the native kernels have no cache of blocks of {shape.block_size} tokens and heads "
            f"of {shape.head_dim} components; block_size may be 16, 32, 64 or 128",
            field="block_size",
        )
    return size


class CacheMemory:
    """A KV cache: the memory of its blocks is taken only as it is used.

    It lies in `file`, where there is one that can be mapped, and may hold what was left there; in
    memory of its own it is all zeros. `kept` is None in the latter case, and `view` has all bytes.
    """

    def __init__(
        self,
        library: Library,
        shape: CacheShape,
        kind: abi.CacheKind,
        file: KeptFile | None = None,
    ) -> None:
        self.bytes = cache_bytes(library, shape, kind)
        self.kept = None if file is None else _kept(file, shape, self.bytes)
        self._layers = shape.num_layers
        self.description = _cache(shape, kind)
        if self.kept is not None:
            self.description.memory = self.kept.address
            self.view = self.kept.view
            return
        try:
            self._memory = anonymous(self.bytes)
        except (OSError, ValueError) as error:
            raise InvalidRequest(
                f"{self.bytes / 2**30:.2f} GiB for the KV cache cannot be had: {error}",
                field="kv_cache_memory",
            ) from error
        self.description.memory = address(np.frombuffer(self._memory, dtype=np.uint8))
        self.view = memoryview(self._memory)

    def touch_ahead(self, size: int) -> None:
        """Let the first blocks of all layers, `size` bytes in all, be taken in the background."""
        if self.kept is not None:
            self.kept.touch_ahead(size)
        else:
            touch_ahead(self._memory, self.description.memory, self._layers, size)


def _kept(file: KeptFile, shape: CacheShape, size: int) -> KeptCache | None:
    try:
        return file.open(
            num_blocks=shape.num_blocks,
            size=size,
            num_layers=shape.num_layers,
            huge_pages=has_huge_pages(),
        )
    except OSError as error:
        logger.warning("the KV cache will not outlive this engine: %s", error)
        return None


def _cache(shape: CacheShape, kind: abi.CacheKind) -> abi.HwCache:
    return abi.HwCache(
        kind=kind,
        num_layers=shape.num_layers,
        num_blocks=shape.num_blocks,
        block_size=shape.block_size,
        kv_heads=shape.num_kv_heads,
        head_dim=shape.head_dim,
    )
