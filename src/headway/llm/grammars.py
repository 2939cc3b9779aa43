"""Whether grammars can be compiled, found out before a request is sent to an engine.

What an engine samples by is compiled there; here it is compiled to tell a caller what is wrong with
it, in a process of its own, because clients choose what it costs (`headway.text.grammar_worker`).
There is one, started when it is first needed; it compiles one grammar at a time, the rest wait in
line (`grammar_queue`), and what was found good is remembered. For one event loop.
"""

from __future__ import annotations

import asyncio
import signal
import sys
from collections import OrderedDict
from collections.abc import Sequence

import msgspec

from headway.background import watched
from headway.errors import HeadwayError, InvalidRequest, Unavailable
from headway.grammar import GrammarCompiler
from headway.llm.grammar_queue import GrammarJob, GrammarQueue
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
MAX_REMEMBERED = 256


class GrammarChecker:
    """Checks grammars that may name one tokenizer's special tokens; `close` it in the end."""

    def __init__(self, tokenizer: Tokenizer, *, command: Sequence[str] = WORKER_COMMAND) -> None:
        self._tokenizer = tokenizer
        self._command = command
        self._queue = GrammarQueue()
        self._jobs: dict[Grammar, GrammarJob] = {}
        """Those in line and the one that is checked."""
        self._checking: asyncio.Task[None] | None = None
        self._worker: WorkerProcess | None = None
        self._good: OrderedDict[Grammar, None] = OrderedDict()

    async def check(self, params: SamplingParams, *, tenant: str = "") -> None:
        """Raise `InvalidRequest` for a grammar that cannot be compiled within the limits.

        `Overloaded` where too many wait, `Unavailable` where there is no process to be had.
        Tenants take turns.
        """
        if params.structured_outputs is None:
            return
        grammar = params.structured_outputs.resolved()
        if grammar in self._good:
            self._good.move_to_end(grammar)
            return
        job = self._jobs.get(grammar) or self._enqueue(grammar, tenant)
        job.askers += 1
        try:
            error = await asyncio.shield(job.error)
        finally:
            job.askers -= 1
            if not job.askers:
                self._queue.discard(job)
                self._settled(job)
        if error is not None:
            raise InvalidRequest(error, field="structured_outputs")

    def check_now(self, params: SamplingParams) -> None:
        """The same on the spot and without its limits, for a caller who is trusted."""
        if params.structured_outputs is not None:
            special = self._special_tokens()
            compiler = GrammarCompiler(lambda: byte_vocabulary(tuple(special)))
            compiler.check(params.structured_outputs.resolved())

    async def close(self) -> None:
        """End the process; a check after that would start another."""
        if self._checking is not None:
            self._checking.cancel()
            await asyncio.gather(self._checking, return_exceptions=True)
        self._give_up(Unavailable("the server is closed"))
        await self._end()

    def _special_tokens(self) -> list[bytes]:
        return [self._tokenizer.token_bytes(each) for each in sorted(self._tokenizer.special_ids)]

    def _enqueue(self, grammar: Grammar, tenant: str) -> GrammarJob:
        job = GrammarJob(grammar, tenant, asyncio.get_running_loop().create_future())
        self._queue.add(job)
        self._jobs[grammar] = job
        if self._checking is None or self._checking.done():
            self._checking = watched(
                self._check_all(), name="grammar checker", on_failure=self._give_up
            )
        return job

    def _settled(self, job: GrammarJob) -> None:
        if self._jobs.get(job.grammar) is job:
            del self._jobs[job.grammar]

    async def _check_all(self) -> None:
        """One after the other, until none is in line."""
        while (job := self._queue.next()) is not None:
            try:
                error = await self._ask(job.grammar)
            except HeadwayError as failure:
                if job.askers:
                    job.error.set_exception(failure)
            else:
                if error is None:
                    self._remember(job.grammar)
                job.error.set_result(error)
            self._settled(job)

    def _remember(self, grammar: Grammar) -> None:
        self._good[grammar] = None
        if len(self._good) > MAX_REMEMBERED:
            self._good.popitem(last=False)

    def _give_up(self, error: BaseException) -> None:
        """Nobody is told of a grammar any more what it is worth."""
        while self._queue.next() is not None:
            pass
        jobs, self._jobs = self._jobs, {}
        for job in jobs.values():
            if job.askers and not job.error.done():
                job.error.set_exception(error)

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
