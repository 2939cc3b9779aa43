"""The real server as a process of its own, for tests of the whole."""

from __future__ import annotations

import re
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import httpx

MODEL = "smollm2-135m-instruct"


@contextmanager
def headway_serve(*flags: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """`headway serve` on a free port, once it is ready."""
    command = [sys.executable, "-m", "headway", "serve", "--port", "0", *flags]
    with subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stderr is not None
            url = ""
            for line in process.stderr:
                if found := re.search(r"event=listening url=(\S+)", line):
                    url = found[1]
                if "event=ready" in line:
                    break
            else:
                raise AssertionError("the server never became ready")
            with ThreadPoolExecutor(1) as pool:
                # Somebody must read the log, or the server would wait for that one day.
                pool.submit(process.stderr.read)
                yield process, url
                process.kill()
        finally:
            process.kill()


def until_idle(url: str) -> None:
    """Wait until the engine holds nothing; every block is free then."""
    deadline = time.monotonic() + 60
    while True:
        load = httpx.get(url + "/load").json()
        used = re.search(
            r"^vllm:kv_cache_usage_perc\S* (\S+)", httpx.get(url + "/metrics").text, re.MULTILINE
        )
        assert used is not None
        if load["server_load"] == load["running"] == load["waiting"] == 0 == float(used[1]):
            return
        assert time.monotonic() < deadline, (load, used[1])
        time.sleep(0.05)
