"""Large pieces of memory, in huge pages where the system gives them.

The kernels stream through weights and KV cache, and with small pages a good part of that time goes
into finding pages (weights come about a third faster from huge ones). The kernel gives none
for a mapped file, so weights are read into memory of our own, unless they would fill too much of
it; then they stay mapped and may be dropped and read again.
"""

from __future__ import annotations

import contextlib
import mmap
from pathlib import Path

from headway import machine

_HUGE_PAGES = Path("/sys/kernel/mm/transparent_hugepage/enabled")
_SHARE = 0.5
"""Of the available memory, that weights may fill for good."""


def anonymous(size: int) -> mmap.mmap:
    """So many zero bytes that take memory only as they are written; raises `OSError`."""
    memory = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    if hasattr(mmap, "MADV_HUGEPAGE"):
        with contextlib.suppress(OSError):  # a kernel without huge pages does as well
            memory.madvise(mmap.MADV_HUGEPAGE)
    return memory


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
