"""The process that renders a chat template within limits, as its owner sees it.

There is one, started when it is first needed; it renders one conversation at a time, and the rest
wait in line, in order. A rendering that goes beyond its limits ends the process, and so does a
caller who leaves in the middle; the next in line gets a new one. What the process may do is its
own affair (`headway.text.render_worker`); it is given no environment and no open files.

For one event loop.
"""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import Sequence
from dataclasses import replace

import msgspec

from headway.errors import InvalidRequest, ModelError, Overloaded, RequestTooLarge, Unavailable
from headway.llm.worker_process import WorkerProcess
from headway.text import TextConfig
from headway.text.render_worker import (
    CPU_LIMIT_SIGNAL,
    MAX_FRAME,
    ChatRendered,
    LoadTemplate,
    RenderChat,
    RenderLimits,
    RenderRefused,
    TemplateLoaded,
    from_worker,
)
from headway.text.template_facts import TemplateFacts

WORKER_COMMAND = (sys.executable, "-m", "headway.text.render_worker")
WALL_SECONDS = 20.0
"""Longest time that a rendering may take where the process does not get its processor time, or the
limit of that does not hold."""
START_SECONDS = 60.0
"""Longest time to start the process and to load the template."""
MAX_WAITING = 256
"""Renderings in line; one more is refused."""
RETRY_AFTER = 1.0

_Answer = TemplateLoaded | ChatRendered | RenderRefused


class RenderProcess:
    """Renders one template's conversations in a process of its own; `close` it in the end."""

    def __init__(
        self,
        source: str,
        text_config: TextConfig,
        *,
        limits: RenderLimits | None = None,
        command: Sequence[str] = WORKER_COMMAND,
    ) -> None:
        self._limits = limits or RenderLimits()
        self._load = LoadTemplate(
            source=source,
            text_config=replace(text_config, chat_template=None),
            limits=self._limits,
        )
        self._command = command
        self._turn = asyncio.Lock()
        self._waiting = 0
        self._worker: WorkerProcess | None = None

    @property
    def source(self) -> str:
        """The template itself."""
        return self._load.source

    async def load(self) -> TemplateFacts:
        """Start the process; raises `ModelError` where it cannot compile the template."""
        async with self._turn:
            return await self._start()

    async def render(self, asked: RenderChat) -> str:
        """The rendered text.

        Raises `InvalidRequest` for what the template refuses and for a limit that it exceeds,
        `RequestTooLarge` for a conversation too large to be handed over, `Overloaded` where too
        many wait, and `Unavailable` where there is no process to be had.
        """
        if self._waiting >= MAX_WAITING:
            raise Overloaded(
                f"{self._waiting} conversations wait for the chat template; try again later",
                retry_after=RETRY_AFTER,
            )
        frame = _frame(asked)
        self._waiting += 1
        try:
            async with self._turn:
                if self._worker is None or self._worker.ended:
                    await self._restart()
                answer = await self._ask(frame, WALL_SECONDS)
        finally:
            self._waiting -= 1
        if isinstance(answer, ChatRendered):
            return answer.text
        assert isinstance(answer, RenderRefused), "only these two answer a rendering"
        raise InvalidRequest(self._reason(answer), field=answer.field or "messages")

    async def close(self) -> None:
        """End the process; a rendering after that would start another."""
        async with self._turn:
            await self._end()

    async def _restart(self) -> None:
        try:
            await self._start()
        except ModelError as error:  # the template was compiled before: it is no fault of its own
            raise Unavailable(error.message, field=error.field) from error

    async def _start(self) -> TemplateFacts:
        await self._end()
        self._worker = await WorkerProcess.launch(self._command, "renders chat templates")
        answer = await self._ask(_frame(self._load), START_SECONDS)
        if isinstance(answer, TemplateLoaded):
            return answer.facts
        await self._end()
        assert isinstance(answer, RenderRefused), "only these two answer a template"
        raise ModelError(self._reason(answer), field="chat_template")

    async def _ask(self, frame: bytes, seconds: float) -> _Answer:
        """The process's answer; where it has none, the process is ended and that is the answer."""
        assert self._worker is not None
        try:
            async with asyncio.timeout(seconds):
                answer = from_worker.decode(await self._worker.ask(frame))
        except TimeoutError:
            await self._end()
            return RenderRefused(message=f"chat template: not rendered after {seconds:g} s")
        except (OSError, EOFError, msgspec.MsgspecError):
            return RenderRefused(message=self._cause_of_death(await self._end()))
        except asyncio.CancelledError:
            await self._end()
            raise
        if isinstance(answer, RenderRefused) and answer.out_of_memory:
            await self._end()
        return answer

    async def _end(self) -> int | None:
        worker, self._worker = self._worker, None
        return 0 if worker is None else await worker.end()

    def _reason(self, refused: RenderRefused) -> str:
        return self._too_much_memory() if refused.out_of_memory else refused.message

    def _too_much_memory(self) -> str:
        size = self._limits.memory / 2**20
        return f"chat template: it needs more than {size:,.0f} MiB of memory"

    def _cause_of_death(self, code: int | None) -> str:
        if code == -CPU_LIMIT_SIGNAL:
            seconds = self._limits.cpu_seconds
            return f"chat template: it takes more than {seconds:g} s of processor time"
        if code in (-signal.SIGSEGV, -signal.SIGABRT):  # Python's way out where even errors fail
            return f"{self._too_much_memory()}, or nests too deeply"
        how = f"exit code {code}" if code is None or code >= 0 else f"signal {-code}"
        return f"chat template: the process that renders it ended ({how})"


def _frame(message: LoadTemplate | RenderChat) -> bytes:
    try:
        body = msgspec.msgpack.encode(message)
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        raise InvalidRequest(
            f"messages and template variables must be plain data: {error}", field="messages"
        ) from None
    if len(body) > MAX_FRAME:
        raise RequestTooLarge(f"a conversation of {len(body)} bytes", field="messages")
    return body
