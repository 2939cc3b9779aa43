"""Static batching with padding: how a model is served by a loop around a `generate` function.

Requests go in batches. Every row of a batch generates until the batch's longest is done, and all
answers are delivered when the batch ends; a request that arrives in the meantime waits for the next
one. What a row generates beyond its own length is padding. A `BatchGenerator` computes a batch:
this engine, or transformers in a process of its own, with the file that this engine prepared its
model from. Nothing of transformers is imported here: the process runs `transformers_baseline`.
"""

from __future__ import annotations

import asyncio
import json
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from typing import IO, Any, Protocol

from headway import machine
from headway.checkpoint import find
from headway.errors import EngineError, HeadwayError
from headway.perf.bench.run_load import LoadClient
from headway.perf.records.record import RequestRecord
from headway.perf.report.run import Bar
from headway.perf.workload.workload import Segment, Workload, WorkloadRequest, vocabulary_tokens


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchTimes:
    """What one batch took. Times are seconds after it began."""

    rows: tuple[Sequence[float], ...] = ()
    """For each row, when each of its tokens was there."""
    error: str = ""
    """Why the batch failed, if it did."""


class BatchGenerator(Protocol):
    """Generates for all rows of a batch at once."""

    async def run(self, prompts: Sequence[Sequence[int]], tokens: int) -> BatchTimes:
        """So many tokens for every prompt; failures are in the answer."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class PaddedRun:
    """The result of a workload, and the slots of its rows."""

    records: tuple[RequestRecord, ...]
    duration: float
    bars: tuple[Bar, ...]
    """Each ends where its own answer was complete; until its batch ends its slot computes
    padding, which counts as idle."""


async def run_padded_load(
    generator: BatchGenerator,
    workload: Workload,
    *,
    slots: int,
    tokens: Callable[[WorkloadRequest], Sequence[int]] = vocabulary_tokens,
    label: str = "request",
) -> PaddedRun:
    """Serve a workload in batches of at most `slots`: whatever has arrived when one can start."""
    prompts = [tokens(request) for request in workload.requests]
    requests = workload.requests
    records: list[RequestRecord] = []
    bars: list[Bar] = []
    start = time.perf_counter()
    now = 0.0
    while len(records) < len(requests):
        first = len(records)
        await asyncio.sleep(max(0.0, requests[first].at - now))
        now = time.perf_counter() - start
        last = first + 1
        while last < min(len(requests), first + slots) and requests[last].at <= now:
            last += 1
        batch = requests[first:last]
        times = await generator.run(prompts[first:last], max(request.output for request in batch))
        began, now = now, time.perf_counter() - start
        names = [f"{label}-{number}" for number in range(first + 1, last + 1)]
        records += _records(batch, names, now, times.error)
        bars += _bars(batch, names, began, times.rows)
    return PaddedRun(records=tuple(records), duration=now, bars=tuple(bars))


def _records(
    batch: Sequence[WorkloadRequest], names: Sequence[str], end: float, error: str
) -> list[RequestRecord]:
    """Answers that come in one piece: the first token arrives with the last."""
    return [
        RequestRecord(
            id=name,
            due=request.at,
            sent=request.at,
            prompt_tokens=request.prompt_tokens,
            output_tokens=0 if error else request.output,
            outcome="error" if error else "ok",
            error=error,
            tenant=request.tenant,
            service_class=request.service_class,
            objectives=request.objectives,
        ).with_times(() if error else (end,), sent=request.at)
        for request, name in zip(batch, names, strict=True)
    ]


def _bars(
    batch: Sequence[WorkloadRequest],
    names: Sequence[str],
    began: float,
    rows: Sequence[Sequence[float]],
) -> list[Bar]:
    return [
        Bar(slot, began, began + row[0], began + row[request.output - 1], name)
        for slot, (request, name, row) in enumerate(zip(batch, names, rows, strict=False))
    ]


class ClientBatchGenerator:
    """A batch generated through a load client: every row is a request of its own."""

    def __init__(self, client: LoadClient) -> None:
        self._client = client
        self._batches = 0

    async def run(self, prompts: Sequence[Sequence[int]], tokens: int) -> BatchTimes:
        self._batches += 1
        start = time.perf_counter()
        # Made in one turn of the event loop, so that they reach the engine together.
        responses = await asyncio.gather(
            *(
                self._client.send(
                    WorkloadRequest(segments=(Segment(0, len(prompt)),), output=tokens, cap=tokens),
                    prompt,
                    request_id=f"batch-{self._batches}-{row}",
                )
                for row, prompt in enumerate(prompts, 1)
            )
        )
        failed = next((response for response in responses if response.outcome != "ok"), None)
        if failed is not None:
            return BatchTimes(error=failed.error or failed.outcome)
        rows = tuple(
            [
                at - start
                for at, count in zip(response.times, response.counts, strict=True)
                for _ in range(count)
            ]
            for response in responses
        )
        short = next((row for row in rows if len(row) != tokens), None)
        if short is not None:
            return BatchTimes(error=f"a row has {len(short)} tokens and not {tokens}")
        return BatchTimes(rows=rows)


PROGRAM = (sys.executable, "-m", "headway.perf.bench.transformers_baseline")
_LONGEST_LINE = 2**28
_GRACE = 5.0
"""Seconds that the process gets to end by itself."""


def transformers_version() -> str | None:
    """The version of transformers that is installed with a tensor library, else None."""
    if find_spec("transformers") is None or find_spec("torch") is None:
        return None
    try:
        return version("transformers")
    except PackageNotFoundError:
        return None


def load_message(model: str, *, dtype: str | None, device: str) -> dict[str, Any]:
    """What the program needs to load a model: where its files are, device and number format.

    `device` "auto" is a GPU where there is one, as for this engine. Raises `ModelNotFound`.
    """
    file = find(model, progress=False).fetch(progress=False)[0]
    gpu = device == "cuda" or (device == "auto" and machine.has_nvidia_gpu())
    if dtype is None:
        dtype = "bfloat16" if gpu or machine.has_bfloat16() else "float32"
    return {
        "folder": str(file.parent),
        "gguf": file.name if file.suffix == ".gguf" else None,
        "dtype": dtype,
        "device": "cuda" if gpu else "cpu",
    }


class TransformersProcess:
    """A loaded model in another process. Obtain one with `start`, and `close` it."""

    def __init__(self, process: asyncio.subprocess.Process, dtype: str, stderr: IO[bytes]) -> None:
        self.dtype = dtype
        self._process = process
        self._stderr = stderr

    @classmethod
    async def start(
        cls, message: dict[str, Any], *, command: Sequence[str] = PROGRAM
    ) -> TransformersProcess:
        """Start the program and wait until the model is loaded; raises `EngineError` if it fails.

        `command` replaces the program (tests do that).
        """
        stderr = tempfile.TemporaryFile()  # noqa: SIM115 - `close` closes it
        try:
            process = await asyncio.create_subprocess_exec(
                *command,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=stderr,
                limit=_LONGEST_LINE,
            )
        except OSError as error:
            stderr.close()
            raise EngineError(f"cannot start {command[0]}: {error}") from error
        started = cls(process, str(message["dtype"]), stderr)
        try:
            await started._send(message)
        except BaseException:
            await started.close()
            raise
        return started

    async def run(self, prompts: Sequence[Sequence[int]], tokens: int) -> BatchTimes:
        """One padded batch; see `headway.perf.bench.padded`."""
        try:
            response = await self._send(
                {"prompts": [list(row) for row in prompts], "tokens": tokens}
            )
        except HeadwayError as error:
            return BatchTimes(error=error.message)
        times = [float(at) for at in response["times"]]
        if len(times) != tokens:
            return BatchTimes(error=f"transformers generated {len(times)} tokens, not {tokens}")
        return BatchTimes(rows=(times,) * len(prompts))

    async def generate(self, prompts: Sequence[Sequence[int]], tokens: int) -> list[list[int]]:
        """The tokens of a batch; raises `EngineError`."""
        response = await self._send({"prompts": [list(row) for row in prompts], "tokens": tokens})
        rows: list[list[int]] = response["tokens"]
        return rows

    async def close(self) -> None:
        """End the process."""
        if self._process.stdin is not None:
            self._process.stdin.close()
        try:
            await asyncio.wait_for(self._process.wait(), _GRACE)
        except TimeoutError:
            self._process.kill()
            await self._process.wait()
        self._stderr.close()

    async def _send(self, message: dict[str, Any]) -> dict[str, Any]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        line = b""
        try:
            self._process.stdin.write(json.dumps(message).encode() + b"\n")
            await self._process.stdin.drain()
            line = await self._process.stdout.readline()
        except (BrokenPipeError, ConnectionResetError):
            pass  # the process has ended; an empty line means the same
        if not line:
            code = await self._process.wait()
            raise EngineError(
                f"the transformers process ended (exit code {code}): {self._last_error_line()}"
            )
        response: dict[str, Any] = json.loads(line)
        if "error" in response:
            raise EngineError(f"transformers: {response['error']}")
        return response

    def _last_error_line(self) -> str:
        """The last line that the process wrote to standard error."""
        self._stderr.seek(0)
        lines = self._stderr.read().decode(errors="replace").split("\n")
        return next((line.strip() for line in reversed(lines) if line.strip()), "it said nothing")
