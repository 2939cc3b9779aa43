"""A server whose engine computes nothing, so that all that it costs is the API process.

The server is the real one, with the default model's tokenizer and template. Its engine process
gives every request one token a step, all in one message as the real engine does, and begins a step
every so many seconds: were it as fast as it could, the API process would join the tokens of several
steps, which a real engine does not let it do. What it answers are the tokens in a file.

    python benchmarks/instant_engine.py --port 8018 --beat 0.02 --answer tokens.json
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

from headway.cli.main import run_async
from headway.config import EngineConfig, ServerConfig
from headway.engine.loop import Engine
from headway.engine.process import serve as serve_engine
from headway.llm import AsyncLLM
from headway.server.app import build_state
from headway.server.run import serve
from headway.types import Limits, Request, TokenEvent
from headway.types.engine import Hardware, SchedulerConfig
from headway.wire import EngineInfo, EngineStats, Start

BLOCKS = 4096


@dataclass(slots=True, kw_only=True)
class InstantEngine:
    """Has the methods of `headway.engine.loop.Engine` that the engine process calls."""

    answer: list[int]
    """Of every request, again and again until its `max_tokens`."""
    beat: float
    """Seconds from one step to the next."""
    running: dict[str, tuple[Request, int]] = field(default_factory=dict)
    """Requests and how many tokens they have."""
    steps: int = 0
    tokens: int = 0
    next_step: float = 0.0

    @property
    def has_work(self) -> bool:
        return bool(self.running)

    def add(self, request: Request) -> list[TokenEvent]:
        self.running[request.id] = (request, 0)
        return []

    def abort(self, request_id: str) -> list[TokenEvent]:
        found = self.running.pop(request_id, None)
        return [] if found is None else [TokenEvent(id=request_id, finish="abort")]

    def step(self) -> list[TokenEvent]:
        now = time.monotonic()
        time.sleep(max(0.0, self.next_step - now))
        self.next_step = max(now, self.next_step) + self.beat
        self.steps += 1
        self.tokens += len(self.running)
        return [self._next(request, count) for request, count in list(self.running.values())]

    def _next(self, request: Request, count: int) -> TokenEvent:
        ends = count + 1 >= request.sampling.max_tokens
        if ends:
            del self.running[request.id]
        else:
            self.running[request.id] = (request, count + 1)
        return TokenEvent(
            id=request.id,
            tokens=(self.answer[count % len(self.answer)],),
            finish="length" if ends else None,
            scheduled_at=None if count else self.next_step,
        )

    def stats(self) -> EngineStats:
        return EngineStats(
            step=self.steps,
            running=len(self.running),
            free_blocks=BLOCKS - len(self.running),
            step_seconds=self.beat,
            step_tokens=len(self.running),
            computed_tokens=self.tokens,
            busy_seconds=self.beat * self.steps,
            ideal_seconds=self.beat * self.steps / 2,
        )


def info_of(start: Start) -> EngineInfo:
    """What a machine that computes nothing would say of itself."""
    hardware = Hardware(
        device="cpu",
        dtype=start.config.dtype,
        kv_cache_dtype=start.config.kv_cache_dtype,
        backend="none",
        threads=1,
    )
    limits = Limits(
        max_num_seqs=256,
        max_num_batched_tokens=8192,
        max_num_partial_prefills=1,
        max_model_len=2048,
    )
    scheduler = SchedulerConfig(limits=limits, num_blocks=BLOCKS, block_size=32)
    return EngineInfo(hardware=hardware, scheduler=scheduler, kv_bytes=0, weight_bytes=0)


def run_engine(fd: int, answer: list[int], beat: float) -> int:
    """The engine process."""
    engine = cast(Engine, InstantEngine(answer=answer, beat=beat))
    return serve_engine(fd, lambda start: (engine, info_of(start)))


def run_server(port: int, answer: Path, beat: float) -> int:
    """The API process, until a signal."""
    command = [sys.executable, __file__, "--answer", str(answer), "--beat", str(beat)]
    engine, server = EngineConfig(), ServerConfig(port=port)
    state = build_state(server, model_name=engine.model)
    return run_async(serve(state, lambda: AsyncLLM.start(engine, command=command)))


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--port", type=int, default=8018)
    parser.add_argument("--answer", type=Path, required=True, help="a list of token ids, as JSON")
    parser.add_argument("--beat", type=float, default=0.02, help="seconds between two steps")
    parser.add_argument("--fd", type=int, help=argparse.SUPPRESS)  # given to the engine process
    given = parser.parse_args()
    if given.fd is not None:
        return run_engine(given.fd, json.loads(given.answer.read_text()), given.beat)
    return run_server(given.port, given.answer, given.beat)


if __name__ == "__main__":
    raise SystemExit(main())
