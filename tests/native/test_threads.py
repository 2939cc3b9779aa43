"""Where the threads of a pool run, as the operating system tells it."""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from headway.native import available, load

pytestmark = [
    pytest.mark.skipif(not available(), reason="the native library is not built"),
    pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="threads cannot be pinned"),
]


def _tasks() -> set[int]:
    return {int(path.name) for path in Path("/proc/self/task").iterdir()}


def test_pinned_workers_stay_where_they_are_put() -> None:
    allowed = sorted(os.sched_getaffinity(0))[:2]
    before = _tasks()
    found: list[set[int]] = []

    def run() -> None:
        library = load()
        pool = library.hw_pool_create(len(allowed), (ctypes.c_int32 * len(allowed))(*allowed))
        # A worker pins itself when it starts, which may take a moment.
        done = threading.Event()
        for _ in range(500):
            own = _tasks() - before
            found[:] = [os.sched_getaffinity(task) for task in own]
            if sorted(found, key=min) == [{cpu} for cpu in allowed]:
                break
            done.wait(0.01)
        library.hw_pool_destroy(pool)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert sorted(found, key=min) == [{cpu} for cpu in allowed]


SHORT_OF_MEMORY = """
import resource
from headway.native import load
library = load()
resource.setrlimit(resource.RLIMIT_AS, (2**31, 2**31))
assert library.hw_pool_create(5000, None) is None
pool = library.hw_pool_create(2, None)
assert pool is not None
library.hw_pool_destroy(pool)
"""


def test_threads_that_cannot_be_started_are_an_answer_and_no_crash() -> None:
    done = subprocess.run([sys.executable, "-c", SHORT_OF_MEMORY], timeout=120, check=False)
    assert done.returncode == 0
