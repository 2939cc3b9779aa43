"""Writes the answers of Ollama's API: whole, or as a stream of JSON objects, one a line.

A call of a tool comes whole, as its arguments are data; one that was cut off is left out, and the
reason of the end says so.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any, TypeVar

import msgspec
from msgspec import UNSET

from headway.llm import TOOL_CALLS, ChoiceCollector, Delta, GenerationRequest, MessageReader
from headway.message import MessageDelta, ToolCall, ToolCallDelta
from headway.server.errors import detail_of
from headway.server.ollama.schema import (
    OllamaAnswerMessage,
    OllamaCalledFunction,
    OllamaChatReply,
    OllamaError,
    OllamaGenerateReply,
    OllamaReply,
    OllamaToolCall,
)
from headway.server.openai.logprobs import ChatLogprob, chat_logprobs
from headway.server.timing import TimedUsage
from headway.text import Tokenizer
from headway.types import TokenLogprobs

NDJSON = "application/x-ndjson"
Reply = TypeVar("Reply", bound=OllamaReply)
Writer = Callable[[str, str, str, Sequence[OllamaToolCall]], OllamaReply]
"""Makes a reply of a model's name, content, reasoning and calls."""


def chat_reply(
    model: str, content: str = "", thinking: str = "", calls: Sequence[OllamaToolCall] = ()
) -> OllamaReply:
    """A reply of `/api/chat`."""
    return OllamaChatReply(
        model=model,
        created_at=timestamp(),
        message=OllamaAnswerMessage(
            content=content, thinking=thinking or UNSET, tool_calls=list(calls) or UNSET
        ),
    )


def generate_reply(
    model: str, content: str = "", thinking: str = "", _calls: Sequence[OllamaToolCall] = ()
) -> OllamaReply:
    """A reply of `/api/generate`, which has no tools."""
    return OllamaGenerateReply(
        model=model, created_at=timestamp(), response=content, thinking=thinking or UNSET
    )


def timestamp(seconds: float | None = None) -> str:
    """Now, or seconds since 1970, as Ollama writes times."""
    zone = UTC
    moment = datetime.now(zone) if seconds is None else datetime.fromtimestamp(seconds, zone)
    return moment.isoformat().replace("+00:00", "Z")


class CallCollector:
    """Puts the pieces of calls together."""

    def __init__(self) -> None:
        self._calls: list[ToolCall] = []
        self._given = 0

    def add(self, pieces: Sequence[ToolCallDelta]) -> None:
        for piece in pieces:
            if piece.index == len(self._calls):
                call = ToolCall(id=piece.id or "", name=piece.name or "", arguments="")
                self._calls.append(call)
            self._calls[piece.index].arguments += piece.arguments

    def complete(self, *, ended: bool) -> list[OllamaToolCall]:
        """Those not given yet that are complete: all but the last, or all where it `ended`."""
        until = len(self._calls) if ended else max(self._given, len(self._calls) - 1)
        some, self._given = self._calls[self._given : until], until
        return called(some)


def called(calls: Sequence[ToolCall]) -> list[OllamaToolCall]:
    """Calls with their arguments as data; those whose arguments break off are left out."""
    found = []
    for call in calls:
        arguments = _object(call.arguments)
        if arguments is not None:
            function = OllamaCalledFunction(name=call.name, arguments=arguments)
            found.append(OllamaToolCall(id=call.id or None, function=function))
    return found


def _object(text: str) -> dict[str, Any] | None:
    try:
        return msgspec.json.decode(text or "{}", type=dict[str, Any])
    except (msgspec.DecodeError, RecursionError):
        return None


class OllamaFormatter:
    """See `headway.server.formatter.Formatter`; there is one continuation."""

    def __init__(
        self,
        generation: GenerationRequest,
        reader: MessageReader,
        tokenizer: Tokenizer,
        write: Writer,
        *,
        model: str,
    ) -> None:
        """`model` is the name that the client used."""
        self.usage = TimedUsage(generation)
        self._reader = reader
        self._tokenizer = tokenizer
        self._write = write
        self._model = model
        self._top = generation.params.logprobs
        self._calls = CallCollector()

    def events(self, delta: Delta) -> bytes:
        replies = [self._reply(part) for part in self._reader.read(delta)]
        ended = delta.finish_reason is not None
        calls = self._calls.complete(ended=ended)
        if calls:
            replies.append(self._write(self._model, "", "", calls))
        shown = [reply for reply in replies if reply is not None]
        if self._top is not None and delta.logprobs:
            shown = shown or [self._write(self._model, "", "", ())]
            shown[0].logprobs = self._logprobs(delta.logprobs)
        if ended:
            last = self._write(self._model, "", "", ())
            shown.append(self._ended(last, self._reader.finish_reason(delta)))
        return b"".join(msgspec.json.encode(reply) + b"\n" for reply in shown)

    def end(self) -> bytes:
        return b""

    def error(self, error: Exception) -> bytes:
        return msgspec.json.encode(OllamaError(detail_of(error).message)) + b"\n"

    def body(self, choices: Sequence[ChoiceCollector]) -> bytes:
        (choice,) = choices
        message, finish = self._reader.whole(choice)
        calls = called(message.tool_calls)
        reply = self._write(self._model, message.content, message.reasoning, calls)
        if self._top is not None:
            reply.logprobs = self._logprobs(choice.logprobs)
        return msgspec.json.encode(self._ended(reply, finish))

    def _reply(self, part: MessageDelta) -> OllamaReply | None:
        self._calls.add(part.tool_calls)
        if not part.content and not part.reasoning:
            return None
        return self._write(self._model, part.content, part.reasoning, ())

    def _ended(self, reply: OllamaReply, finish: str | None) -> OllamaReply:
        times = self.usage.choices[0]
        reply.done = True
        reply.done_reason = "stop" if finish == TOOL_CALLS else finish or "stop"
        reply.total_duration = _nanoseconds(self.usage.total_seconds)
        reply.load_duration = 0  # it was loaded before the server was ready
        reply.prompt_eval_count = times.prompt_tokens
        reply.prompt_eval_duration = _nanoseconds(times.prompt_seconds)
        reply.eval_count = times.generated_tokens
        reply.eval_duration = _nanoseconds(times.generating_seconds)
        return reply

    def _logprobs(self, positions: Sequence[TokenLogprobs]) -> list[ChatLogprob]:
        tokenizer = self._tokenizer
        found = chat_logprobs(positions, tokenizer, top=self._top or 0, name=tokenizer.token_text)
        return found.content


def _nanoseconds(seconds: float) -> int:
    return round(seconds * 1e9)
