"""Mixed hostile load beside well-behaved streams: `python -m tests.hostile.mixed [--seconds 600]`.

Starts a server, takes what 16 streams say in a calm run, then asks the same again and again while
every attack of `attacks` runs, from a process of its own, and the engine is killed and stopped. The
streams must say the same tokens; none may be lost; memory must stay level; `/health` must answer.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import signal
import statistics
import sys
import time
from typing import Any

import psutil

from tests.hostile import watch
from tests.server.serving import headway_serve, until_idle


async def run(
    url: str,
    pid: int,
    *,
    seconds: float,
    streams: int,
    tokens: int,
    scale: float,
    kill_every: float,
) -> dict[str, Any]:
    """The report of one run against the server at `url`, whose process is `pid`."""
    async with watch.clients(url) as client:
        asked = [watch.question(number, tokens) for number in range(streams)]
        told = await asyncio.gather(*(watch.stream(client, body) for body in asked))
    calm = {number: answer.tokens for number, answer in enumerate(told)}
    assert all(len(said) == tokens for said in calm.values()), [answer.error for answer in told]
    end = time.monotonic() + seconds
    memory, kills = watch.Memory(), 0
    attacks = await _attackers(url, seconds, scale)
    watching = asyncio.gather(watch.probe_health(url, end), memory.watch(pid, end))
    killing = asyncio.create_task(_kill_engines(pid, end, kill_every))
    try:
        told = await watch.streams_until(url, end, calm, tokens=tokens)
        probes, _ = await watching
        kills = await killing
        output, _ = await attacks.communicate()
    finally:
        with contextlib.suppress(ProcessLookupError):
            attacks.kill()
    return {
        "seconds": seconds,
        "streams": _streams(told),
        "health": _health(probes),
        "memory_mib": {
            "api": watch.levels(memory.server),
            "engine_and_others": watch.levels(memory.children),
        },
        "engine_kills": kills,
        "attacks": json.loads(output),
    }


async def _attackers(url: str, seconds: float, scale: float) -> asyncio.subprocess.Process:
    command = [sys.executable, "-m", "tests.hostile.attacks", url]
    command += ["--seconds", str(seconds), "--scale", str(scale)]
    return await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)


async def _kill_engines(pid: int, end: float, every: float) -> int:
    """Kill the engine now and then, every third time stop it instead; how often that was."""
    kills = 0
    while every and time.monotonic() + every < end:
        await asyncio.sleep(every)
        engine = engine_of(pid)
        if engine is not None:
            kills += 1
            engine.send_signal(signal.SIGSTOP if kills % 3 == 0 else signal.SIGKILL)
    return kills


def engine_of(pid: int) -> psutil.Process | None:
    """The engine process of a server, None while there is none."""
    for child in psutil.Process(pid).children():
        with contextlib.suppress(psutil.Error):
            if "headway.engine" in child.cmdline():
                return child
    return None


def _streams(told: list[watch.Told]) -> dict[str, Any]:
    firsts = [one.first_token_seconds for one in told if one.first_token_seconds is not None]
    lost = [one.error for one in told if one.error is not None and not one.shed]
    return {
        "complete": sum(one.error is None for one in told),
        "shed": sum(one.shed for one in told),
        "lost": len(lost),
        "errors": sorted(set(map(str, lost)))[:10],
        "first_token_p50": round(statistics.median(firsts), 3),
        "first_token_p99": round(watch.quantile(firsts, 0.99), 3),
    }


def _health(probes: list[float]) -> dict[str, Any]:
    good = [taken for taken in probes if taken >= 0]
    return {
        "asked": len(probes),
        "not_200": len(probes) - len(good),
        **{f"p{share}": round(watch.quantile(good, share / 100), 4) for share in (50, 99)},
        "longest": round(max(good, default=float("nan")), 3),
    }


def failures(report: dict[str, Any]) -> list[str]:
    """What of a report must not be."""
    found = [f"attack: {what}" for what in report["attacks"]["broken"]]
    if report["streams"]["lost"]:
        found.append(f"streams lost: {report['streams']['errors']}")
    if not report["streams"]["complete"]:
        found.append("no stream was completed")
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=600)
    parser.add_argument("--streams", type=int, default=16)
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--scale", type=float, default=1.0)
    parser.add_argument("--kill-every", type=float, default=60.0)
    given = vars(parser.parse_args())
    with headway_serve() as (process, url):
        report = asyncio.run(run(url, process.pid, **given))
        until_idle(url)
    print(json.dumps(report, indent=1))
    found = failures(report)
    for what in found:
        print(what, file=sys.stderr)
    return bool(found)


if __name__ == "__main__":
    raise SystemExit(main())
