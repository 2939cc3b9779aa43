"""A file of memory, mapped at the beginning of a huge page, and huge pages for it.

Such a file (Linux's memfd) is memory with a descriptor: it lives as long as any process has it open
or mapped, so it outlives whoever wrote it. The system gives it small pages unless its administrator
has said otherwise, but makes huge ones of a range when it is asked (MADV_COLLAPSE, Linux 6.1).
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import mmap
import os
import threading
import weakref
from collections.abc import Iterator

import numpy as np

HUGE_PAGE = 2**21
_PROT_NONE, _MAP_FIXED = 0, 0x10
_POPULATE, _COLLAPSE = 23, 25
"""MADV_POPULATE_WRITE and MADV_COLLAPSE; Python names none of the four."""


class SharedMapping:
    """The first `size` bytes of the file `descriptor`, mapped while this object lives.

    `view` and what is at `address` must not be used longer. Raises `OSError`.
    """

    def __init__(self, descriptor: int, size: int) -> None:
        self.size = size
        self.address = _map_aligned(descriptor, size)
        array = (ctypes.c_ubyte * size).from_address(self.address)
        self.view = np.frombuffer(memoryview(array), dtype=np.uint8).data
        # Not at exit: kernels may still compute.
        weakref.finalize(self, _libc().munmap, self.address, size).atexit = False


class PagesAhead:
    """Takes the memory of a mapping in huge pages, ahead of its use, in a thread of low priority.

    The `parts` equal parts of the `size` bytes from `begin` on are filled from their beginnings, so
    those are taken first. Where the system cannot do it, memory is taken as it is written.
    """

    def __init__(self, mapping: SharedMapping, begin: int, size: int, parts: int) -> None:
        self._mapping = mapping
        self._begin = mapping.address + begin
        self._stride = size // parts
        self.parts = parts
        self._reached = 0
        self._thread: threading.Thread | None = None

    @property
    def reached(self) -> int:
        """Bytes of each part that were taken, or are being taken."""
        return self._reached

    def reach(self, share: int) -> threading.Thread | None:
        """Have the first `share` bytes of each part taken; None where that is not begun.

        It is not while the same is done for fewer of them.
        """
        first, last = self._reached, min(share, self._stride)
        if last <= first or (self._thread is not None and self._thread.is_alive()):
            return None
        self._reached = last
        self._thread = threading.Thread(
            target=self._run, args=(first, last), name="pages-ahead", daemon=True
        )
        self._thread.start()
        return self._thread

    def stop(self) -> None:
        """Leave the rest to be taken as it is written."""
        self._reached = self._stride

    def _run(self, first: int, last: int) -> None:
        with contextlib.suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), 19)
        libc = _libc()
        for page in self._pages(first, last):
            # There must be something of it to be made a huge page.
            failed = libc.madvise(page, mmap.PAGESIZE, _POPULATE) or (
                libc.madvise(page, HUGE_PAGE, _COLLAPSE) and ctypes.get_errno() != errno.EAGAIN
            )
            if failed:
                self.stop()  # an older kernel, or memory has become scarce
                return

    def _pages(self, first: int, last: int) -> Iterator[int]:
        """Addresses of the huge pages with bytes `first` to `last` of each part, those of all parts
        in turns. Where parts meet, a page may come twice, which costs nothing."""
        end = self._mapping.address + self._mapping.size
        for share in range(first, last, HUGE_PAGE):
            for part in range(self.parts):
                begin = self._begin + part * self._stride + share
                stop = min(begin + min(last - share, HUGE_PAGE), end - HUGE_PAGE + 1)
                yield from range(begin // HUGE_PAGE * HUGE_PAGE, stop, HUGE_PAGE)


def _map_aligned(descriptor: int, size: int) -> int:
    """Where the file was mapped: a multiple of the size of huge pages, without which it gets none.

    The system chooses a place for more than is needed, of which the file replaces a part.
    """
    libc = _libc()
    private = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
    reserved = _checked(libc.mmap(None, size + HUGE_PAGE, _PROT_NONE, private, -1, 0))
    begin = -(-reserved // HUGE_PAGE) * HUGE_PAGE
    writable = mmap.PROT_READ | mmap.PROT_WRITE
    try:
        _checked(libc.mmap(begin, size, writable, mmap.MAP_SHARED | _MAP_FIXED, descriptor, 0))
    except OSError:
        libc.munmap(reserved, size + HUGE_PAGE)
        raise
    pages = -(-size // mmap.PAGESIZE) * mmap.PAGESIZE
    for start, end in ((reserved, begin), (begin + pages, reserved + size + HUGE_PAGE)):
        if end > start:
            libc.munmap(start, end - start)
    if hasattr(mmap, "MADV_HUGEPAGE"):
        libc.madvise(begin, size, mmap.MADV_HUGEPAGE)  # whether that is heeded or not
    return begin


def _checked(address: int | None) -> int:
    if address is None or address == ctypes.c_void_p(-1).value:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return address


def _libc() -> ctypes.CDLL:
    libc = ctypes.CDLL(None, use_errno=True)
    pointer, size, number = ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int
    libc.mmap.argtypes = (pointer, size, number, number, number, ctypes.c_long)
    libc.mmap.restype = pointer
    libc.munmap.argtypes = (pointer, size)
    libc.madvise.argtypes = (pointer, size, number)
    return libc
