"""Writes one response, whole or as events; see `headway.server.formatter.Formatter`."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import pairwise
from typing import Any

import msgspec

from headway.errors import InvalidRequest, Overloaded
from headway.llm import ChoiceCollector, Delta
from headway.server.errors import detail_of
from headway.server.formatter import UsageCounter
from headway.server.openai.conversation import Conversation
from headway.server.openai.logprobs import (
    ChatLogprob,
    TextOffsets,
    chat_logprobs,
    token_names,
)
from headway.server.openai.service import answered_tier
from headway.server.responses.objects import (
    IncompleteDetails,
    InputTokensDetails,
    LifecycleEvent,
    OutputItem,
    OutputTokensDetails,
    ResponseError,
    ResponseEvent,
    ResponseObject,
    ResponseUsage,
)
from headway.server.responses.output import ResponseOutput
from headway.server.responses.schema import ResponsesBody
from headway.types import TokenLogprobs

PROMPT_TAIL = 16
"""Tokens of a prompt that decide how the first one after it is written."""

_encoder = msgspec.json.Encoder()


Keep = Callable[[bytes, tuple[str, ...]], None]
"""Takes a response that has ended, as JSON, and the ids of its items."""


class ResponsesFormatter:
    """Writes the answer to `asked`, and hands the response to `keep` when it has ended."""

    def __init__(
        self,
        conversation: Conversation,
        asked: ResponsesBody,
        keep: Keep,
        *,
        kept: bool,
    ) -> None:
        """`kept`: the response says that it is kept. `keep` may be called from any thread."""
        self.usage = UsageCounter(conversation.generation)
        self.ended = False
        self._conversation = conversation
        self._keep = keep
        self._fields = _echoed(conversation, asked) | {"store": kept}
        self._reader = conversation.reader()
        self._output = ResponseOutput()
        chat = conversation.body
        self._top = (chat.top_logprobs or 0) if chat.logprobs else None
        self._name = token_names(conversation.llm.tokenizer, as_ids=False)
        self._finish: str | None = None
        self._sequence = 0
        self._reasoning_tokens = 0
        # Of tokens whose text has not come yet: what it is decides what they are.
        self._pending_tokens = 0
        self._pending: list[TokenLogprobs] = []

    def events(self, delta: Delta) -> bytes:
        data = b""
        if not self._sequence:
            begun = self.snapshot("in_progress")
            data = self._lifecycle("response.created", begun)
            data += self._lifecycle("response.in_progress", begun)
        return data + self._encoded(self._take(delta))

    def end(self) -> bytes:
        data = self._encoded(self._close())
        name = "response.completed" if self._complete else "response.incomplete"
        return data + self._lifecycle(name, self._end())

    def error(self, error: Exception) -> bytes:
        data = self._encoded(self._output.close(complete=False))
        return data + self._lifecycle("response.failed", self.fail(error))

    def body(self, choices: Sequence[ChoiceCollector]) -> bytes:
        for delta in self._pieces(choices[0]):
            for _ in self._take(delta):
                pass
        for _ in self._close():
            pass
        return self._end()

    def snapshot(self, status: str) -> bytes:
        """The response before its end: what it will answer, and none of it."""
        return self._written(status=status, output=[])

    def fail(self, error: Exception) -> bytes:
        """End the response with an error; what was written of it stays."""
        written = self._written(
            status="failed",
            error=ResponseError(code=_code(error), message=detail_of(error).message),
            output=self._output.items,
            usage=self._usage(),
        )
        return self._kept(written)

    def cancel(self) -> bytes:
        """End the response because its client wants no more of it."""
        return self._kept(self._written(status="cancelled", output=self._output.items))

    @property
    def _complete(self) -> bool:
        return self._finish != "length"

    def _close(self) -> Iterator[ResponseEvent]:
        """The end of the output; a stop string may end a response, but completes no call."""
        return self._output.close(complete=self._complete and not self._reader.broke_off(0))

    def _end(self) -> bytes:
        done: dict[str, Any] = {"status": "completed", "completed_at": int(time.time())}
        if not self._complete:
            done = {"status": "incomplete", "incomplete_details": IncompleteDetails()}
        return self._kept(self._written(**done, output=self._output.items, usage=self._usage()))

    def _kept(self, written: bytes) -> bytes:
        """It ends once: a long answer may still be written in a thread when it is cancelled."""
        if not self.ended:
            self.ended = True
            self._keep(written, tuple(item.id for item in self._output.items))
        return written

    def _written(self, *, status: str, output: list[OutputItem], **more: Any) -> bytes:
        return _encoder.encode(ResponseObject(status=status, output=output, **more, **self._fields))

    def _usage(self) -> ResponseUsage:
        counted = self.usage
        return ResponseUsage(
            input_tokens=counted.prompt_tokens,
            input_tokens_details=InputTokensDetails(cached_tokens=counted.cached_tokens),
            output_tokens=counted.completion_tokens,
            output_tokens_details=OutputTokensDetails(reasoning_tokens=self._reasoning_tokens),
            total_tokens=counted.prompt_tokens + counted.completion_tokens,
        )

    def _take(self, delta: Delta) -> Iterator[ResponseEvent]:
        """What a delta adds to the output.

        Tokens count as reasoning, and have log probabilities in a message, by the text that comes
        with them or next: a marker between the two belongs to what follows it.
        """
        self._finish = delta.finish_reason or self._finish
        self._pending_tokens += len(delta.token_ids)
        self._pending += delta.logprobs
        parts = self._reader.read(delta)
        if not parts:
            return
        scores: list[ChatLogprob] = []
        if any(part.content for part in parts):
            scores = self._logprobs(self._pending)
        elif all(part.reasoning and not part.tool_calls for part in parts):
            self._reasoning_tokens += self._pending_tokens
        self._pending_tokens, self._pending = 0, []
        for part in parts:
            yield from self._output.add(part, scores if part.content else ())
            if part.content:
                scores = []

    def _logprobs(self, positions: Iterable[TokenLogprobs]) -> list[ChatLogprob]:
        if self._top is None:
            return []
        tokenizer = self._conversation.llm.tokenizer
        return chat_logprobs(positions, tokenizer, top=self._top, name=self._name).content

    def _pieces(self, choice: ChoiceCollector) -> Iterator[Delta]:
        """A whole continuation as the deltas that it could have come in.

        One for each token where it matters which part of the message a token belongs to.
        """
        text, tokens, finish = choice.text, choice.token_ids, choice.finish_reason
        message, _ = self._conversation.reader().whole(choice)
        if self._top is None and not message.reasoning:
            yield Delta(index=0, text=text, token_ids=tuple(tokens), finish_reason=finish)
            return
        generation = self._conversation.generation
        offsets = TextOffsets(
            self._conversation.llm.tokenizer,
            generation.prompts[0].token_ids[-PROMPT_TAIL:],
            skip_special_tokens=generation.params.skip_special_tokens,
        )
        starts = [*map(offsets.next, tokens), len(text)]
        for place, (start, stop) in enumerate(pairwise(starts)):
            last = place == len(tokens) - 1
            yield Delta(
                index=0,
                text=text[start:stop],
                token_ids=(tokens[place],),
                logprobs=tuple(choice.logprobs[place : place + 1]),
                finish_reason=finish if last else None,
            )

    def _lifecycle(self, name: str, response: bytes) -> bytes:
        return self._encoded([LifecycleEvent(type=name, response=msgspec.Raw(response))])

    def _encoded(self, events: Iterable[ResponseEvent]) -> bytes:
        pieces: list[bytes] = []
        for event in events:
            event.sequence_number = self._sequence
            self._sequence += 1
            head = b"event: " + event.type.encode() + b"\ndata: "
            pieces += (head, _encoder.encode(event), b"\n\n")
        return b"".join(pieces)


def _echoed(conversation: Conversation, asked: ResponsesBody) -> dict[str, Any]:
    """The fields of a response that say what was asked, the defaults filled in."""
    generation, reasoning = conversation.generation, asked.reasoning
    return {
        "id": generation.id,
        "created_at": int(time.time()),
        "background": bool(asked.background),
        "instructions": asked.instructions,
        "max_output_tokens": asked.max_output_tokens,
        "max_tool_calls": asked.max_tool_calls,
        "metadata": asked.metadata or {},
        "model": conversation.model,
        "parallel_tool_calls": asked.parallel_tool_calls is not False,
        "previous_response_id": asked.previous_response_id,
        "prompt_cache_key": asked.prompt_cache_key,
        "reasoning": {"effort": reasoning.effort if reasoning else None, "summary": None},
        "safety_identifier": asked.safety_identifier,
        "service_tier": answered_tier(conversation.body, generation),
        "temperature": generation.params.temperature,
        "text": _text(asked),
        "tool_choice": asked.tool_choice or "auto",
        "tools": [{"parameters": None, "strict": None} | tool for tool in asked.tools or ()],
        "top_logprobs": asked.top_logprobs or 0,
        "top_p": generation.params.top_p,
        "truncation": asked.truncation or "disabled",
        "user": asked.user,
    }


def _text(asked: ResponsesBody) -> dict[str, Any]:
    given: dict[str, Any] = {"format": {"type": "text"}}
    if asked.text is not None and asked.text.format is not None:
        given["format"] = msgspec.to_builtins(asked.text.format)
    if asked.text is not None and asked.text.verbosity is not None:
        given["verbosity"] = asked.text.verbosity
    return given


def _code(error: Exception) -> str:
    """OpenAI's word for what made a response fail."""
    if isinstance(error, Overloaded):
        return "rate_limit_exceeded"
    return "invalid_prompt" if isinstance(error, InvalidRequest) else "server_error"
