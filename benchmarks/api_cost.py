"""What the API process costs: microseconds of its CPU time for a request, and for each token.

Against an engine that computes nothing (`instant_engine.py`), or with `--real` against `headway
serve`. The same burst is asked for few tokens and for many: the difference is what tokens cost, the
rest what requests do. CPU time is counted by the kernel for all threads of the process, so it holds
on a busy machine, too; of several bursts the cheapest one counts. Several sources of Headway, such
as a checkout of an earlier commit, take turns.

    python benchmarks/api_cost.py --source /tmp/before/src --source src --rounds 3
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from headway.config import EngineConfig
from headway.llm.weight_format import ready_model
from headway.text import Tokenizer
from rounds import in_turns
from served import MODEL, Place, about_this_machine, lines

ROOT = Path(__file__).parents[1]
FEW = 8
"""Tokens that each request of a small burst asks for."""
READY_SECONDS = 120.0
PROMPT = "Tell me what a kernel of an operating system does, in plain words."


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """Requests that are asked at once."""

    name: str
    path: str
    streams: int
    stream: bool
    token_ids: bool = False

    def body(self, tokens: int) -> dict[str, object]:
        asked: dict[str, object] = {
            "model": MODEL,
            "max_tokens": tokens,
            "ignore_eos": True,
            "temperature": 0,
            "stream": self.stream,
        }
        if self.stream:
            asked["stream_options"] = {"include_usage": True}
        if self.token_ids:
            asked["return_token_ids"] = True
        if self.path.endswith("chat/completions"):
            return asked | {"messages": [{"role": "user", "content": PROMPT}]}
        return asked | {"prompt": list(range(100, 228))}


CASES = (
    Case(name="64 streamed chats", path="/v1/chat/completions", streams=64, stream=True),
    Case(name="64 whole chats", path="/v1/chat/completions", streams=64, stream=False),
    Case(
        name="64 streamed completions with token ids",
        path="/v1/completions",
        streams=64,
        stream=True,
        token_ids=True,
    ),
    Case(name="1 streamed chat", path="/v1/chat/completions", streams=1, stream=True),
)


def cpu_microseconds(pid: int) -> float:
    """That all threads of a process have used so far."""
    threads = Path(f"/proc/{pid}/task").iterdir()
    return sum(int((each / "schedstat").read_text().split()[0]) for each in threads) / 1e3


def kernel_share(pid: int) -> tuple[int, int]:
    """Clock ticks in the kernel, and all of them."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return int(fields[12]), int(fields[11]) + int(fields[12])


async def burst(place: Place, case: Case, tokens: int) -> None:
    """Ask at once and read to the end; raises `RuntimeError` for an answer of another length."""

    async def one() -> None:
        last = b""
        async for line in lines(place, case.path, case.body(tokens)):
            if b'"completion_tokens"' in line:
                last = line
        if b'"completion_tokens":%d' % tokens not in last:
            raise RuntimeError(f"{case.name}: not {tokens} tokens: {last[:500]!r}")

    await asyncio.gather(*(one() for _ in range(case.streams)))


def measure(pid: int, place: Place, case: Case, *, many: int, bursts: int) -> dict[str, float]:
    """Microseconds of a request and of a token, each in the cheapest burst."""
    asyncio.run(burst(place, case, FEW))  # so that nothing is done for the first time
    cost = dict.fromkeys((FEW, many), float("inf"))
    ticks = kernel_share(pid)
    for tokens in (FEW, many) * bursts:
        before = cpu_microseconds(pid)
        asyncio.run(burst(place, case, tokens))
        time.sleep(0.05)  # for what is done after the last byte
        cost[tokens] = min(cost[tokens], cpu_microseconds(pid) - before)
    in_kernel, all_ticks = (b - a for a, b in zip(ticks, kernel_share(pid), strict=True))
    token = (cost[many] - cost[FEW]) / (case.streams * (many - FEW))
    return {
        "us per token": token,
        "us per request": cost[FEW] / case.streams - FEW * token,
        "% in the kernel": 100 * in_kernel / max(1, all_ticks),
    }


@contextmanager
def server(source: Path, command: Sequence[str], port: int) -> Iterator[int]:
    """The process id of a server from this source, which is stopped in the end."""
    environment = dict(os.environ) | {"PYTHONPATH": str(source.resolve())}
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(
            command, env=environment, stdout=log, stderr=log, start_new_session=True
        )
        try:
            asyncio.run(_ready(process, port))
            yield process.pid
        except TimeoutError:
            log.seek(0)
            raise RuntimeError(f"no server: {log.read()[-2000:].decode()}") from None
        finally:
            process.terminate()
            process.wait(timeout=60)


async def _ready(process: subprocess.Popen[bytes], port: int) -> None:
    async with asyncio.timeout(READY_SECONDS):
        while True:
            await asyncio.sleep(0.1)
            if process.poll() is not None:
                raise TimeoutError
            try:
                reader, writer = await asyncio.open_connection("127.0.0.1", port)
            except OSError:
                continue
            writer.write(b"GET /ready HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            status = await reader.readline()
            writer.close()
            if b" 200 " in status:
                return


def answer_tokens(path: Path) -> None:
    """What the engine says: the tokens of a text in which there is more than plain letters."""
    _, prepared = ready_model(EngineConfig())
    text = (ROOT / "README.md").read_text()[:20_000]
    ids = Tokenizer.load(prepared.folder).encode(text, add_special_tokens=False)
    path.write_text(json.dumps(ids[:2000]))


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as found:
        port: int = found.getsockname()[1]
        return port


def command_of(port: int, *, real: bool, answer: Path, beat: float) -> list[str]:
    if real:
        return [sys.executable, "-m", "headway", "serve", MODEL, "--port", str(port)]
    program = str(ROOT / "benchmarks" / "instant_engine.py")
    given = ["--port", str(port), "--answer", str(answer), "--beat", str(beat)]
    return [sys.executable, program, *given]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--source", type=Path, action="append", help="a folder with `headway` in")
    parser.add_argument("--real", action="store_true", help="`headway serve` and its own engine")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--tokens", type=int, default=136, help="of each request of a large burst")
    parser.add_argument("--bursts", type=int, default=3, help="small and large ones, in each round")
    parser.add_argument("--beat", type=float, default=0.02, help="seconds between two steps")
    parser.add_argument("--cases", type=int, nargs="*", help=f"of the {len(CASES)}, from 0")
    parser.add_argument("--out", type=Path, help="where the record goes, as JSON")
    given = parser.parse_args()
    sources: list[Path] = given.source or [ROOT / "src"]
    cases = [CASES[number] for number in given.cases or range(len(CASES))]
    best: dict[tuple[Path, str], dict[str, float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        answer = Path(folder) / "answer.json"
        answer_tokens(answer)
        for _, source in in_turns(sources, given.rounds):
            place = Place(port=free_port())
            command = command_of(place.port, real=given.real, answer=answer, beat=given.beat)
            with server(source, command, place.port) as pid:
                for case in cases:
                    found = measure(pid, place, case, many=given.tokens, bursts=given.bursts)
                    known = best.setdefault((source, case.name), found)
                    best[source, case.name] = min(known, found, key=lambda row: row["us per token"])
                    shown = ", ".join(f"{name} {value:.1f}" for name, value in found.items())
                    print(f"{source}: {case.name}: {shown}", flush=True)
    if given.out:
        rows = [{"source": str(source), "case": case} | row for (source, case), row in best.items()]
        record = about_this_machine() | {"real": given.real, "best": rows}
        given.out.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
