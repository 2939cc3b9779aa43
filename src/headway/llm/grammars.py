"""Whether grammars can be compiled, found out before a request is sent to an engine.

What an engine samples by is compiled there; here it is compiled to tell a caller what is wrong with
it, in a process of its own, because clients choose what it costs (`headway.text.grammar_worker`).
There is one, started when it is first needed; it compiles one grammar at a time, the rest wait in
line, and what was found good is remembered. For one event loop.
"""

from __future__ import annotations

import asyncio
import signal
import sys
from collections import OrderedDict
from collections.abc import Sequence

import msgspec

from headway.errors import InvalidRequest, Overloaded
from headway.grammar import GrammarCompiler
from headway.llm.worker_process import WorkerProcess
from headway.text import Tokenizer
from headway.text.grammar_worker import (
    CheckGrammar,
    GrammarChecked,
    GrammarLimits,
    byte_vocabulary,
)
from headway.text.render_worker import CPU_LIMIT_SIGNAL
from headway.types import Grammar, SamplingParams

WORKER_COMMAND = (sys.executable, "-m", "headway.text.grammar_worker")
WALL_SECONDS = 20.0
"""Longest time to start the process, or to compile where it does not get its processor time."""
MAX_WAITING = 64
"""Grammars in line; one more is refused."""
MAX_REMEMBERED = 256
RETRY_AFTER = 1.0


class GrammarChecker:
    """Checks grammars that may name one tokenizer's special tokens; `close` it in the end."""

    def __init__(self, tokenizer: Tokenizer, *, command: Sequence[str] = WORKER_COMMAND) -> None:
        self._tokenizer = tokenizer
        self._command = command
        self._turn = asyncio.Lock()
        self._waiting = 0
        self._worker: WorkerProcess | None = None
        self._good: OrderedDict[Grammar, None] = OrderedDict()

    async def check(self, params: SamplingParams) -> None:
        """Raise `InvalidRequest` for a grammar that cannot be compiled within the limits.

        `Overloaded` where too many wait, `Unavailable` where there is no process to be had.
        """
        if params.structured_outputs is None:
            return
        grammar = params.structured_outputs.resolved()
        if grammar in self._good:
            self._good.move_to_end(grammar)
            return
        if self._waiting >= MAX_WAITING:
            raise Overloaded(
                f"{self._waiting} grammars wait to be compiled; try again later",
                retry_after=RETRY_AFTER,
            )
        self._waiting += 1
        try:
            async with self._turn:
                error = None if grammar in self._good else await self._ask(grammar)
        finally:
            self._waiting -= 1
        if error is not None:
            raise InvalidRequest(error, field="structured_outputs")
        self._good[grammar] = None
        if len(self._good) > MAX_REMEMBERED:
            self._good.popitem(last=False)

    def check_now(self, params: SamplingParams) -> None:
        """The same on the spot and without its limits, for a caller who is trusted."""
        if params.structured_outputs is not None:
            special = self._special_tokens()
            compiler = GrammarCompiler(lambda: byte_vocabulary(tuple(special)))
            compiler.check(params.structured_outputs.resolved())

    async def close(self) -> None:
        """End the process; a check after that would start another."""
        async with self._turn:
            await self._end()

    def _special_tokens(self) -> list[bytes]:
        return [self._tokenizer.token_bytes(each) for each in sorted(self._tokenizer.special_ids)]

    async def _ask(self, grammar: Grammar) -> str | None:
        """Why a grammar cannot be compiled; a process that has no answer is ended."""
        asked = CheckGrammar(grammar=grammar, special_tokens=self._special_tokens())
        if self._worker is None or self._worker.ended:
            await self._end()
            self._worker = await WorkerProcess.launch(self._command, "compiles grammars")
        try:
            async with asyncio.timeout(WALL_SECONDS):
                answer = await self._worker.ask(msgspec.msgpack.encode(asked))
            return msgspec.msgpack.decode(answer, type=GrammarChecked).error
        except TimeoutError:
            await self._end()
            return f"structured_outputs: not compiled after {WALL_SECONDS:g} s"
        except (OSError, EOFError, msgspec.MsgspecError):
            return f"structured_outputs: {_cause_of_death(await self._end())}"
        except asyncio.CancelledError:
            await self._end()
            raise

    async def _end(self) -> int | None:
        worker, self._worker = self._worker, None
        return 0 if worker is None else await worker.end()


def _cause_of_death(code: int | None) -> str:
    limits = GrammarLimits()
    if code == -CPU_LIMIT_SIGNAL:
        return f"it takes more than {limits.cpu_seconds:g} s of processor time to compile"
    if code in (-signal.SIGSEGV, -signal.SIGBUS, -signal.SIGABRT):
        return (
            f"it nests too deeply, or takes more than {limits.memory / 2**20:g} MiB, to be compiled"
        )
    how = f"exit code {code}" if code is None or code >= 0 else f"signal {-code}"
    return f"the process that compiles it ended ({how})"
