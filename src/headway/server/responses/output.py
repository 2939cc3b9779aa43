"""Parts of an assistant's message as the items of a response, and as the events that tell of them.

One item is open at a time: reasoning, a message, or a call. What belongs to another one closes it.
The events of a stream add up to the items, whatever pieces the parts come in. Knows nothing of
tokens or HTTP.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Sequence
from copy import copy
from dataclasses import dataclass, field

from headway.message import MessageDelta, ToolCallDelta
from headway.server.openai.logprobs import ChatLogprob
from headway.server.responses.objects import (
    ArgumentsDeltaEvent,
    ArgumentsDoneEvent,
    FunctionCallItem,
    ItemEvent,
    MessageItem,
    OutputItem,
    OutputText,
    PartEvent,
    ReasoningDeltaEvent,
    ReasoningDoneEvent,
    ReasoningItem,
    ReasoningText,
    ResponseEvent,
    TextDeltaEvent,
    TextDoneEvent,
)

ADDED = "response.output_item.added"
DONE = "response.output_item.done"
PART_ADDED = "response.content_part.added"
PART_DONE = "response.content_part.done"

Events = Iterator[ResponseEvent]


@dataclass(slots=True)
class _Open:
    """The item that is being written: what it consists of so far."""

    item: OutputItem
    call: int | None = None
    """The call's place in the message, if it is one."""
    texts: list[str] = field(default_factory=list)
    logprobs: list[ChatLogprob] = field(default_factory=list)


class ResponseOutput:
    """The items of one response. Every call says in events what it changed."""

    def __init__(self) -> None:
        self._closed: list[OutputItem] = []
        self._open: _Open | None = None

    @property
    def items(self) -> list[OutputItem]:
        """Those that are complete, or as complete as they will be."""
        return list(self._closed)

    def add(self, part: MessageDelta, logprobs: Sequence[ChatLogprob] = ()) -> Events:
        """What a part of the message adds; log probabilities are those of its content."""
        if part.reasoning:
            yield from self._reasoning(part.reasoning)
        if part.content:
            yield from self._content(part.content, logprobs)
        for call in part.tool_calls:
            yield from self._call(call)

    def close(self, *, complete: bool) -> Events:
        """The answer has ended; not `complete`: it was cut off. One of nothing is a message."""
        if self._open is None and not self._closed:
            yield from self._begin(MessageItem(id=_new_id("msg")))
        yield from self._end(complete=complete)

    def _reasoning(self, text: str) -> Events:
        if self._open is None or not isinstance(self._open.item, ReasoningItem):
            yield from self._begin(ReasoningItem(id=_new_id("rs")))
        now = self._now()
        now.texts.append(text)
        yield ReasoningDeltaEvent(
            type="response.reasoning_text.delta",
            item_id=now.item.id,
            output_index=len(self._closed),
            delta=text,
        )

    def _content(self, text: str, logprobs: Sequence[ChatLogprob]) -> Events:
        if self._open is None or not isinstance(self._open.item, MessageItem):
            yield from self._begin(MessageItem(id=_new_id("msg")))
        now = self._now()
        now.texts.append(text)
        now.logprobs.extend(logprobs)
        yield TextDeltaEvent(
            type="response.output_text.delta",
            item_id=now.item.id,
            output_index=len(self._closed),
            delta=text,
            logprobs=list(logprobs),
        )

    def _call(self, call: ToolCallDelta) -> Events:
        if self._open is None or self._open.call != call.index:
            item = FunctionCallItem(
                id=_new_id("fc"), call_id=call.id or _new_id("call"), name=call.name or ""
            )
            yield from self._begin(item, call.index)
        now = self._now()
        if call.arguments:
            now.texts.append(call.arguments)
            yield ArgumentsDeltaEvent(
                type="response.function_call_arguments.delta",
                item_id=now.item.id,
                output_index=len(self._closed),
                delta=call.arguments,
            )

    def _begin(self, item: OutputItem, call: int | None = None) -> Events:
        yield from self._end(complete=True)
        self._open = _Open(item, call)
        index = len(self._closed)
        yield ItemEvent(type=ADDED, output_index=index, item=copy(item))
        if not isinstance(item, FunctionCallItem):
            part = OutputText if isinstance(item, MessageItem) else ReasoningText
            yield PartEvent(
                type=PART_ADDED, item_id=item.id, output_index=index, part=part(text="")
            )

    def _end(self, *, complete: bool) -> Events:
        """Close the item that is open, if one is."""
        if self._open is None:
            return
        now, index = self._open, len(self._closed)
        item, text = now.item, "".join(now.texts)
        item.status = "completed" if complete else "incomplete"
        yield from _endings(item, text, now.logprobs, index)
        yield ItemEvent(type=DONE, output_index=index, item=item)
        self._closed.append(item)
        self._open = None

    def _now(self) -> _Open:
        assert self._open is not None, "an item was begun"
        return self._open


def _endings(item: OutputItem, text: str, logprobs: list[ChatLogprob], index: int) -> Events:
    """Put the text into its item, and say that there will be no more of it."""
    if isinstance(item, FunctionCallItem):
        item.arguments = text
        yield ArgumentsDoneEvent(
            type="response.function_call_arguments.done",
            item_id=item.id,
            output_index=index,
            name=item.name,
            arguments=text,
        )
        return
    part: OutputText | ReasoningText
    if isinstance(item, MessageItem):
        part = OutputText(text=text, logprobs=logprobs)
        item.content = [part]
        yield TextDoneEvent(
            type="response.output_text.done",
            item_id=item.id,
            output_index=index,
            text=text,
            logprobs=logprobs,
        )
    else:
        part = ReasoningText(text=text)
        item.content = [part]
        yield ReasoningDoneEvent(
            type="response.reasoning_text.done", item_id=item.id, output_index=index, text=text
        )
    yield PartEvent(type=PART_DONE, item_id=item.id, output_index=index, part=part)


def _new_id(kind: str) -> str:
    return f"{kind}_{uuid.uuid4().hex}"
