"""The fault matrix: `python -m tests.hostile.faults [--fault killed] [--moment streaming]`.

Every fault of the machine at every moment of an engine's life, beside streams, and before others
that begin after it; both are compared with those of a calm run. Prints a row for each pair: what
clients saw, and how long they waited.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import resource
import signal
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import psutil

from tests.hostile import watch
from tests.hostile.mixed import engine_of
from tests.server.serving import headway_serve, until_idle

STREAMS = 8
TOKENS = 48
LONG_PROMPT = "the quick brown fox jumps over the lazy dog " * 150
RESTART_SECONDS = 120.0
"""Longest time that an engine may take to come back."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """A server under test: its address, its process, and the recording that it writes."""

    url: str
    pid: int
    record: Path

    async def engine(self, *, other_than: int = 0) -> psutil.Process:
        """The engine process, waited for; not the one of that id."""
        end = time.monotonic() + RESTART_SECONDS
        while time.monotonic() < end:
            engine = engine_of(self.pid)
            if engine is not None and engine.pid != other_than:
                return engine
            await asyncio.sleep(0.002)
        raise AssertionError("no engine came back")


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """What clients saw of a fault."""

    fault: str
    moment: str
    complete: int
    lost: int
    same_tokens: bool
    engine_replaced: bool
    seconds: float
    """From the fault to the end of the last stream."""
    errors: tuple[str, ...]


async def killed(server: Server) -> None:
    (await server.engine()).send_signal(signal.SIGKILL)


async def stopped(server: Server) -> None:
    (await server.engine()).send_signal(signal.SIGSTOP)


async def out_of_memory(server: Server) -> None:
    """No further allocation of the engine succeeds."""
    engine = await server.engine()
    hard = resource.prlimit(engine.pid, resource.RLIMIT_AS)[1]
    resource.prlimit(engine.pid, resource.RLIMIT_AS, (2**20, hard))


async def full_disk(server: Server) -> None:
    """No file of either process, the recording among them, may grow."""
    for process in (await server.engine(), psutil.Process(server.pid)):
        hard = resource.prlimit(process.pid, resource.RLIMIT_FSIZE)[1]
        resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (0, hard))


async def no_descriptors(server: Server) -> None:
    """The server may open no more, and its engine dies; they come back after two seconds."""
    process = psutil.Process(server.pid)
    soft, hard = resource.prlimit(process.pid, resource.RLIMIT_NOFILE)
    most = max(int(entry.name) for entry in Path(f"/proc/{server.pid}/fd").iterdir()) + 1
    resource.prlimit(process.pid, resource.RLIMIT_NOFILE, (most, hard))
    (await server.engine()).send_signal(signal.SIGKILL)
    await asyncio.sleep(2)
    resource.prlimit(process.pid, resource.RLIMIT_NOFILE, (soft, hard))


Fault = Callable[[Server], Awaitable[None]]
FAULTS: dict[str, Fault] = {
    fault.__name__: fault for fault in (killed, stopped, out_of_memory, full_disk, no_descriptors)
}
MOMENTS = ("start", "prefill", "streaming", "idle")


async def ask(server: Server, moment: str, started: asyncio.Event) -> list[watch.Told]:
    """The streams of one case; `started` is set when all of them have brought tokens."""
    heard: set[int] = set()

    async def one(number: int) -> watch.Told:
        body = watch.question(number, TOKENS)
        if moment == "prefill":
            body["prompt"] = f"{number} {LONG_PROMPT}"
        return await watch.stream(client, body, on_token=lambda: note(number))

    def note(number: int) -> None:
        heard.add(number)
        if len(heard) == STREAMS:
            started.set()

    async with watch.clients(server.url) as client:
        return await asyncio.gather(*(one(number) for number in range(STREAMS)))


async def calmly(server: Server, moment: str) -> list[watch.Told]:
    """What the streams of a case bring without a fault: those beside it, and those after it."""
    beside = [] if moment == "idle" else await ask(server, moment, asyncio.Event())
    return beside + await ask(server, "prefill", asyncio.Event())


async def case(server: Server, fault: str, moment: str, calm: list[watch.Told]) -> Row:
    """One fault at one moment, with the streams that brought `calm` before."""
    until_idle(server.url)
    started = asyncio.Event()
    engine = (await server.engine()).pid
    streams: asyncio.Task[list[watch.Told]] | None = None
    if moment != "idle":
        streams = asyncio.create_task(ask(server, moment, started))
    if moment == "prefill":
        await asyncio.sleep(0.3)
    elif moment in ("streaming", "start"):
        await started.wait()
    if moment == "start":
        (await server.engine()).send_signal(signal.SIGKILL)
        await server.engine(other_than=engine)
    began = time.monotonic()
    await FAULTS[fault](server)
    told = await streams if streams is not None else []
    told += await ask(server, "prefill", asyncio.Event())
    wrong = [one for one, before in zip(told, calm, strict=True) if one.tokens != before.tokens]
    return Row(
        fault=fault,
        moment=moment,
        complete=sum(one.error is None for one in told),
        lost=sum(one.error is not None for one in told),
        same_tokens=not wrong,
        engine_replaced=(await server.engine()).pid != engine,
        seconds=round(time.monotonic() - began, 2),
        errors=tuple(sorted({str(one.error) for one in told if one.error is not None})),
    )


async def matrix(faults: list[str], moments: list[str]) -> list[Row]:
    """A server for every pair, so that none suffers from what another left."""
    rows = []
    for moment in moments:
        calm: list[watch.Told] | None = None
        for fault in faults:
            with TemporaryDirectory() as folder:
                record = Path(folder) / "steps.jsonl"
                flags = ("--no-enable-prefix-caching", "--record", str(record))
                with headway_serve(*flags) as (process, url):
                    server = Server(url=url, pid=process.pid, record=record)
                    calm = calm or await calmly(server, moment)
                    rows.append(await case(server, fault, moment, calm))
            print(json.dumps({name: getattr(rows[-1], name) for name in Row.__slots__}), flush=True)
    return rows


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--fault", action="append", choices=tuple(FAULTS))
    parser.add_argument("--moment", action="append", choices=MOMENTS)
    given = parser.parse_args()
    rows = asyncio.run(matrix(given.fault or list(FAULTS), given.moment or list(MOMENTS)))
    return any(row.lost or not row.same_tokens for row in rows)


if __name__ == "__main__":
    raise SystemExit(main())
