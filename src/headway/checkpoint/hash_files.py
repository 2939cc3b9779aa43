"""Hashes files without disturbing anybody: `python hash_files.py PARENT DUTY FILE...`, a program.

It computes only where a processor would idle, takes the disk likewise, and at most the share DUTY
of a processor's time. What was not in the page cache before is not left there, so that nothing more
useful is driven out. Ends when the process PARENT does. Writes a line for each file: its SHA-256
(empty for one that cannot be read) and its path. Imports nothing of this package.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import sys
import time

PIECE = 2**20
LONGEST_PAUSE = 0.2
"""Seconds; between two pieces, when the parent is looked for."""


def main(parent: int, duty: float, paths: list[str]) -> None:
    _be_last()
    for path in paths:
        try:
            digest = _hash(path, duty, parent)
        except OSError:
            digest = ""
        sys.stdout.write(f"{digest} {path}\n")
        sys.stdout.flush()


def _be_last() -> None:
    """Give way to everything else, on processors and (which follows on Linux) on disks."""
    with contextlib.suppress(OSError, AttributeError):
        os.nice(19)
    with contextlib.suppress(OSError, AttributeError):
        os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))


def _hash(path: str, duty: float, parent: int) -> str:
    digest = hashlib.sha256()
    piece = memoryview(bytearray(PIECE))
    descriptor = os.open(path, os.O_RDONLY)
    offset, end = 0, os.fstat(descriptor).st_size
    try:
        while True:
            began = time.thread_time()
            size = _read(descriptor, piece[: end - offset], offset)
            if not size:
                return digest.hexdigest()
            digest.update(piece[:size])
            offset += size
            if os.getppid() != parent:
                sys.exit(1)
            pause = (time.thread_time() - began) * (1 / duty - 1)
            time.sleep(min(pause, LONGEST_PAUSE))
    finally:
        os.close(descriptor)


def _read(descriptor: int, piece: memoryview, offset: int) -> int:
    """As many bytes as the piece has; fewer only where the file has become shorter."""
    if hasattr(os, "RWF_NOWAIT"):
        with contextlib.suppress(OSError):  # not in the page cache, or a file system without this
            size = os.preadv(descriptor, [piece], offset, os.RWF_NOWAIT)
            if size == len(piece):
                return size
    size = os.preadv(descriptor, [piece], offset)
    if hasattr(os, "posix_fadvise"):
        os.posix_fadvise(descriptor, offset, size, os.POSIX_FADV_DONTNEED)
    return size


if __name__ == "__main__":
    main(int(sys.argv[1]), float(sys.argv[2]), sys.argv[3:])
