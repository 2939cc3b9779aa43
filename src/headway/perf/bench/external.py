"""Transformers as an external system: a process of its own that generates padded batches.

The model is the same file that this engine prepared its own from. Nothing of transformers is
imported here: the process runs `transformers_baseline`.
"""

from __future__ import annotations

import asyncio
import json
import sys
import tempfile
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from typing import IO, Any

from headway import machine
from headway.checkpoint import find
from headway.errors import EngineError, HeadwayError
from headway.perf.bench.padded import BatchTimes

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
    file = find(model, progress=False).files[0]
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
