"""An engine program whose tokens can be computed by hand, and that can be told to misbehave.

It is run as `python fake_engine.py --fd N` in place of the real engine and shares its process code.
The next token after a history (prompt and generated tokens) of n tokens with sum s, under seed r,
is `(31 * s + 7 * n + r) % 97 + 3`, one per request and step: a pure function of the history, as the
real engine's is. Prompts may hold these tokens:

    POISON      the process dies as soon as it is to compute a token of this request
    SLOW_POISON the process dies when it is to compute the request's 6th token since it got it
    LATE_POISON the same with its token number LATE_TOKENS
    BROKEN      the step raises an exception instead
    GARBAGE     the process sends bytes that are no message
    STOPPER     the request ends with finish "stop" after 3 tokens
    HANGING     the step does not end
    HUNGRY      the step finds no memory
    SHED        the request is shed as it comes, for 2.5 seconds

The folder given as `prepared` may hold `script.json` with the fields of `Script`. The log of
process starts goes to `starts.log` there, `gpus.log` has which GPUs each process sees, and
`memory.log` says what each engine found in the memory for its KV cache, in which it then leaves its
number.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import cast

import msgspec

from headway import wire
from headway.engine import heartbeat
from headway.engine.loop import Engine
from headway.engine.process import serve
from headway.errors import InvalidRequest
from headway.types import Limits, Request, TokenEvent, TokenLogprobs
from headway.types.batch_news import BatchNews
from headway.types.engine import Hardware, PolicyConfig, SchedulerConfig
from headway.wire import EngineInfo, EngineStats, Start

POISON, SLOW_POISON, BROKEN, GARBAGE, STOPPER, HANGING, HUNGRY, SHED = range(1001, 1009)
LATE_POISON, LATE_TOKENS = 1009, 100
HEARTBEAT_SECONDS = 0.05
NUM_BLOCKS = 4096
BLOCK_SIZE = 8
VOCABULARY = 2000
COMMAND = (sys.executable, str(Path(__file__).resolve()))


def next_token(history: list[int], seed: int) -> int:
    return (31 * sum(history) + 7 * len(history) + seed) % 97 + 3


def expected_tokens(request: Request) -> list[int]:
    """What an undisturbed engine would generate, without stop tokens."""
    history = list(request.prompt)
    for _ in range(request.sampling.max_tokens):
        history.append(next_token(history, request.sampling.seed))
    return history[len(request.prompt) :]


@dataclass(frozen=True, slots=True, kw_only=True)
class Script:
    step_seconds: float = 0.0
    refuse_from: int = 1_000_000
    """The number of the first start (from 0) that is refused with a `Failed`."""
    exit_from: int = 1_000_000
    """The number of the first start that ends without a word."""
    stop_at_step: int | None = None
    """The first engine stops itself (as by Ctrl-Z) at this step."""
    hang_at_step: int | None = None
    """This step of the first engine does not end."""
    tokenless_steps: int = 0
    """So many steps give no token, as those of a long prefill."""
    max_message: int | None = None
    """Bytes that the engine may send at once."""
    requests_log: str | None = None
    """A file to which every request is appended as it came, a line of JSON each."""


@dataclass(slots=True, kw_only=True)
class Running:
    request: Request
    history: list[int]
    blocks: int
    resumed_at: int
    heard: bool = False


@dataclass(slots=True)
class FakeBatchWatch:
    """Has the methods of `BatchWatch` that the process calls; tells every step."""

    engine: FakeEngine
    interval: float
    told: int = -1

    def due_in(self, now: float) -> float | None:
        return None if self.told == self.engine.steps else 0.0

    def take(self, now: float) -> BatchNews | None:
        if self.due_in(now) is None:
            return None
        self.told = self.engine.steps
        return BatchNews(
            at=now,
            slots=256,
            num_running=len(self.engine.running),
            num_waiting=0,
            running=[],
            waiting=[],
            ended=[],
            waits_for=None,
        )


@dataclass(slots=True)
class FakeEngine:
    """Has the methods of `headway.engine.loop.Engine` that the process calls."""

    script: Script
    fd: int
    running: dict[str, Running] = field(default_factory=dict)
    steps: int = 0
    computed: int = 0
    batch_watch: FakeBatchWatch | None = None

    def watch(self, interval: float | None) -> None:
        self.batch_watch = None if interval is None else FakeBatchWatch(self, interval)

    @property
    def has_work(self) -> bool:
        return bool(self.running)

    def add(self, request: Request) -> list[TokenEvent]:
        if request.id in self.running:
            return [TokenEvent(id=request.id, finish="error", error="sent twice")]
        if self.script.requests_log is not None:
            with Path(self.script.requests_log).open("ab") as file:
                file.write(msgspec.json.encode(request) + b"\n")
        if SHED in request.prompt:
            return [TokenEvent(id=request.id, finish="error", error="too much", retry_after=2.5)]
        history = [*request.prompt, *request.generated]
        total = len(request.prompt) + request.sampling.max_tokens
        self.running[request.id] = Running(
            request=request,
            history=history,
            blocks=-(-total // BLOCK_SIZE),
            resumed_at=len(history),
        )
        return []

    def abort(self, request_id: str) -> list[TokenEvent]:
        found = self.running.pop(request_id, None)
        return [] if found is None else [TokenEvent(id=request_id, finish="abort")]

    def step(self) -> list[TokenEvent]:
        self.steps += 1
        time.sleep(self.script.step_seconds)
        if self.steps == self.script.stop_at_step:
            os.kill(os.getpid(), signal.SIGSTOP)
        if self.steps == self.script.hang_at_step:
            time.sleep(3600)
        if self.steps <= self.script.tokenless_steps:
            return []
        return [self._advance(each) for each in list(self.running.values())]

    def stats(self) -> EngineStats:
        held = sum(each.blocks for each in self.running.values())
        return EngineStats(
            step=self.steps,
            running=len(self.running),
            free_blocks=NUM_BLOCKS - held,
            computed_tokens=self.computed,
        )

    def _advance(self, each: Running) -> TokenEvent:
        request, sampling = each.request, each.request.sampling
        self._misbehave(each)
        logprobs: tuple[TokenLogprobs, ...] = ()
        if sampling.prompt_logprobs is not None and not each.heard:
            logprobs = tuple(
                TokenLogprobs(token=token, logprob=-1.0, rank=1) for token in request.prompt[1:]
            )
        token = next_token(each.history, sampling.seed)
        each.history.append(token)
        self.computed += 1
        generated = len(each.history) - len(request.prompt)
        stopped = STOPPER in request.prompt and generated == 3
        ended = stopped or generated >= sampling.max_tokens
        if ended:
            del self.running[request.id]
        first, each.heard = not each.heard, True
        return TokenEvent(
            id=request.id,
            tokens=(token,),
            prompt_logprobs=logprobs,
            finish=("stop" if stopped else "length") if ended else None,
            stop_reason=token if stopped else None,
            scheduled_at=1.0 if first else None,
        )

    def _misbehave(self, each: Running) -> None:
        if POISON in each.request.prompt:
            os._exit(9)
        if SLOW_POISON in each.request.prompt and len(each.history) - each.resumed_at == 5:
            os._exit(9)
        got = len(each.history) - each.resumed_at
        if LATE_POISON in each.request.prompt and got == LATE_TOKENS - 1:
            os._exit(9)
        if BROKEN in each.request.prompt:
            raise RuntimeError("broken on purpose")
        if HUNGRY in each.request.prompt:
            raise MemoryError
        if HANGING in each.request.prompt:
            time.sleep(3600)
        if GARBAGE in each.request.prompt:
            os.write(self.fd, b"\xff" * 64)
            time.sleep(60)


def look_into_memory(log: Path, descriptor: int, number: int) -> None:
    found = os.pread(descriptor, 100, 0).decode()
    with log.open("a") as file:
        file.write(f"{found}\n")
    os.pwrite(descriptor, f"engine {number}".encode(), 0)


def build(start: Start, fd: int) -> tuple[Engine, EngineInfo]:
    folder = Path(start.prepared)
    script, number = Script(), 0
    if folder.is_dir():
        log = folder / "starts.log"
        number = len(log.read_text().splitlines()) if log.exists() else 0
        with log.open("a") as file:
            file.write(f"{os.getpid()}\n")
        with (folder / "gpus.log").open("a") as file:
            file.write(f"{os.getpid()} {os.environ.get('CUDA_VISIBLE_DEVICES', '-')}\n")
        if start.kv_cache_fd is not None:
            look_into_memory(folder / "memory.log", start.kv_cache_fd, number)
        if (folder / "script.json").exists():
            script = Script(**json.loads((folder / "script.json").read_text()))
    if number > 0:
        script = replace(script, hang_at_step=None, stop_at_step=None)
    if script.max_message is not None:
        wire.MAX_MESSAGE = script.max_message
    if number >= script.exit_from:
        os._exit(3)
    if number >= script.refuse_from:
        raise InvalidRequest("the KV cache does not fit", field="kv_cache_memory")
    info = EngineInfo(
        hardware=Hardware(
            device="cpu",
            dtype=start.config.dtype,
            kv_cache_dtype=start.config.kv_cache_dtype,
            backend="fake",
            threads=1,
        ),
        scheduler=SchedulerConfig(
            policy=PolicyConfig(name=start.config.policy),
            limits=Limits(
                max_num_seqs=256,
                max_num_batched_tokens=2048,
                max_num_partial_prefills=4,
                max_model_len=start.config.max_model_len or 2048,
            ),
            num_blocks=NUM_BLOCKS,
            block_size=BLOCK_SIZE,
        ),
        kv_bytes=0,
        weight_bytes=0,
    )
    return cast(Engine, FakeEngine(script, fd)), info


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--fd", type=int, required=True)
    fd = parser.parse_args().fd
    heartbeat.INTERVAL = HEARTBEAT_SECONDS
    return serve(fd, lambda start: build(start, fd))


if __name__ == "__main__":
    raise SystemExit(main())
