"""A real `headway serve` process and a small client of its HTTP interface, for the benchmarks.

The client costs as little as it can, because it shares the cores with the server: one connection a
request, and of every chunk no more than the time and the tokens. It knows no workload.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import platform
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from headway import machine

MODEL = "smollm2-135m-instruct"


@dataclass(frozen=True, kw_only=True)
class Work:
    """One request: a prompt of token ids and how many tokens to generate, greedily."""

    prompt: list[int]
    tokens: int
    salt: str = ""  # requests of different salt share no cached prefix
    n: int = 1  # continuations; more than one need a temperature
    fields: Mapping[str, object] = field(default_factory=dict)  # further ones of the body


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where a server listens, and as whom it is asked."""

    port: int
    host: str = "127.0.0.1"
    key: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)  # further ones


@dataclass(frozen=True, kw_only=True)
class Stream:
    """What a client saw: when it asked, and what came when."""

    asked: float
    chunks: list[tuple[float, list[int]]]

    @property
    def tokens(self) -> list[int]:
        return [token for _, tokens in self.chunks for token in tokens]

    @property
    def ttft(self) -> float:
        return self.chunks[0][0] - self.asked

    @property
    def seconds(self) -> float:
        return self.chunks[-1][0] - self.asked

    @property
    def gaps(self) -> list[float]:
        times = [when for when, _ in self.chunks]
        return [later - earlier for earlier, later in itertools.pairwise(times)]


async def ask(
    place: Place | int,
    work: Work,
    model: str = MODEL,
    chunks: list[tuple[float, list[int]]] | None = None,
) -> Stream:
    """Streams one completion from a place, or from a port of this machine.

    `chunks` are filled as they come, for who wants to see them before the end; a chunk of a server
    that sends no ids of tokens has none. Raises RuntimeError unless as many tokens came as were
    asked for, or of such a server any.
    """
    place = Place(port=place) if isinstance(place, int) else place
    chunks = [] if chunks is None else chunks
    asked = time.perf_counter()
    seen = b""
    async for line in lines(place, "/v1/completions", _body(work, model)):
        if line.startswith(b"data: {"):
            choices = json.loads(line[6:]).get("choices") or ()
            tokens = [token for each in choices for token in each.get("token_ids") or ()]
            if tokens or any(each.get("text") for each in choices):
                chunks.append((time.perf_counter(), tokens))
        seen = line if line.strip() else seen
    count = sum(len(tokens) for _, tokens in chunks)
    if not chunks or (count and count != work.tokens * work.n):
        raise RuntimeError(f"asked for {work.tokens} tokens, got {len(chunks)} chunks; {seen!r}")
    return Stream(asked=asked, chunks=chunks)


async def lines(place: Place, path: str, body: Mapping[str, object]) -> AsyncIterator[bytes]:
    """The lines of an answer as they come, from the status line to the body's."""
    reader, writer = await asyncio.open_connection(place.host, place.port, limit=2**20)
    try:
        writer.write(_post(place, path, json.dumps(body).encode()))
        async for line in reader:
            yield line
    finally:
        writer.close()


def _body(work: Work, model: str) -> dict[str, object]:
    body: dict[str, object] = {
        "model": model,
        "prompt": work.prompt,
        "max_tokens": work.tokens,
        "temperature": 0 if work.n == 1 else 1,
        "ignore_eos": True,
        "stream": True,
        "return_token_ids": True,
    }
    if work.salt:
        body["cache_salt"] = work.salt
    if work.n > 1:
        body["n"] = work.n
    return body | dict(work.fields)


def _post(place: Place, path: str, body: bytes) -> bytes:
    key = f"Authorization: Bearer {place.key}\r\n" if place.key else ""
    more = "".join(f"{name}: {value}\r\n" for name, value in place.headers.items())
    head = (
        f"POST {path} HTTP/1.1\r\nHost: {place.host}\r\nContent-Type: application/json\r\n"
        f"{key}{more}Content-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    )
    return head.encode() + body


class Server:
    """A `headway serve` process on a port of its own; a context manager that stops it."""

    def __init__(self, port: int, flags: list[str]) -> None:
        command = [sys.executable, "-m", "headway", "serve", "--port", str(port), *flags]
        self.port = port
        self.started = time.perf_counter()
        self._folder = tempfile.TemporaryDirectory()
        self._log = Path(self._folder.name) / "server.log"
        with self._log.open("wb") as log:
            self.process = subprocess.Popen(
                command, start_new_session=True, stdout=log, stderr=subprocess.STDOUT
            )
        asyncio.run(self._ready())
        self.ready_after = time.perf_counter() - self.started

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        os.killpg(self.process.pid, signal.SIGTERM)
        self.process.wait(timeout=90)
        self._folder.cleanup()

    async def _ready(self) -> None:
        deadline = time.perf_counter() + 600
        while time.perf_counter() < deadline and self.process.poll() is None:
            try:
                reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
                writer.write(b"GET /ready HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
                status = await reader.readline()
                writer.close()
                if b" 200 " in status:
                    return
            except OSError:
                pass
            await asyncio.sleep(0.02)
        raise RuntimeError(f"the server did not become ready: {self._log.read_text()[-2000:]}")

    def chosen(self) -> dict[str, str]:
        """What the engine's log says it runs with: dtype, backend, threads and so on."""
        found = re.search(r"(?:event=engine_|engine )ready (.*)", self._log.read_text())
        if found is None:
            return {}
        pairs = re.findall(r"(\w+)=(.+?)(?= \w+=|$)", found[1])
        return {key: value.strip('"') for key, value in pairs if key != "seconds"}

    def peak_memory(self) -> int | None:
        """Most resident bytes of the server's processes, each at its own peak; None if unknown."""
        try:
            return sum(_peak(pid) for pid in _family(self.process.pid))
        except OSError:
            return None


def _family(pid: int) -> list[int]:
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [pid, *(member for child in children for member in _family(int(child)))]


def _peak(pid: int) -> int:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    return 0


def about_this_machine() -> dict[str, object]:
    """What a record of measurements should say about where it was made."""
    here = Path(__file__).parent
    commit = subprocess.run(
        ["git", "describe", "--always", "--dirty"],  # noqa: S607 - the developer's own git
        cwd=here,
        capture_output=True,
        text=True,
        check=False,
    ).stdout.strip()
    return {
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
        "commit": commit or "unknown",
        "machine": f"{machine.cores()} cores {machine.processor()}, "
        f"{machine.total_memory() / 2**30:.0f} GiB",
        "system": platform.platform(terse=True),
        "python": platform.python_version(),
    }
