"""Reasoning before an answer: how models mark it, and how it is told from the rest.

Some models write both marks; of some the chat template opens the reasoning, so that only the
closing mark is in the answer. `begins_inside` tells from the prompt's end which it is.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from headway.message.parts import MessageDelta, MessageParser
from headway.message.reading import WHITE, Reading, TextReader


@dataclass(frozen=True, slots=True, kw_only=True)
class ReasoningFormat:
    """How a family of models marks its reasoning, which comes first in an answer if at all."""

    name: str
    opening: str
    closing: str
    implied: bool = False
    """Whether the models reason also where nothing has opened it: an answer begins inside."""

    @property
    def markers(self) -> tuple[str, ...]:
        """Texts that are special tokens of some models, which the parser must see in the text."""
        return (self.opening, self.closing)


def _think(name: str, *, implied: bool = False) -> ReasoningFormat:
    return ReasoningFormat(name=name, opening="<think>", closing="</think>", implied=implied)


_FORMATS = (
    *(_think(name) for name in ("think", "qwen3", "deepseek_v3", "glm45", "holo2", "nemotron_v3")),
    *(
        _think(name, implied=True)
        for name in ("deepseek_r1", "step3", "olmo3", "minimax_m2", "kimi_k2")
    ),
    ReasoningFormat(name="mistral", opening="[THINK]", closing="[/THINK]"),
    ReasoningFormat(name="seed_oss", opening="<seed:think>", closing="</seed:think>"),
    ReasoningFormat(
        name="granite", opening="Here is my thought process:", closing="Here is my response:"
    ),
    ReasoningFormat(name="gemma4", opening="<|channel>thought", closing="<channel|>"),
)

REASONING_FORMATS: Mapping[str, ReasoningFormat] = MappingProxyType(
    {each.name: each for each in _FORMATS}
)
"""By the names of vLLM's `--reasoning-parser`, and a few of our own."""

_SIGNS = ("[THINK]", "<seed:think>", "<|channel>thought", "<think>")


def reasoning_for_template(source: str) -> str | None:
    """The name of the format in which a chat template (its text) writes reasoning, if any."""
    for sign in _SIGNS:
        if sign in source:
            return "think" if sign == "<think>" else _named_by(sign)
    return None


def _named_by(opening: str) -> str:
    return next(each.name for each in _FORMATS if each.opening == opening)


def begins_inside(form: ReasoningFormat, prompt: str) -> bool:
    """Whether the answer to this prompt (its end is enough) begins inside the reasoning.

    So it does where the template has just opened it; and where the models always reason, unless the
    template has just closed it, as templates do that were asked not to let the model think.
    """
    end = prompt.rstrip()
    if end.endswith(form.opening):
        return True
    return form.implied and not end.endswith(form.closing)


class ReasoningParser:
    """Reads the reasoning, then lets `rest` read what follows; a `MessageParser`.

    White space around the reasoning belongs to nothing. An answer that never closes its reasoning
    is all reasoning.
    """

    def __init__(self, form: ReasoningFormat, rest: MessageParser, *, inside: bool) -> None:
        self._form = form
        self._rest = rest
        self._inside = inside
        self._reader = TextReader()
        self._reasoning: list[str] = []
        self._steps = self._read()
        self._done = False

    @property
    def plain(self) -> bool:
        return self._done and self._rest.plain

    def feed(self, text: str) -> MessageDelta:
        if self._done:
            return self._rest.feed(text)
        self._reader.add(text)
        return self._go_on()

    def finish(self) -> MessageDelta:
        if self._done:
            return self._rest.finish()
        self._reader.closed = True
        first, last = self._go_on(), self._rest.finish()
        return MessageDelta(
            reasoning=first.reasoning + last.reasoning,
            content=first.content + last.content,
            tool_calls=first.tool_calls + last.tool_calls,
            cut_off=last.cut_off,
        )

    def _go_on(self) -> MessageDelta:
        self._done = next(self._steps, True) is True
        rest = self._rest.feed(self._reader.take_all()) if self._done else MessageDelta()
        reasoning = "".join(self._reasoning) + rest.reasoning
        self._reasoning.clear()
        return MessageDelta(reasoning=reasoning, content=rest.content, tool_calls=rest.tool_calls)

    def _read(self) -> Reading:
        reader, form = self._reader, self._form
        reader.keep()
        yield from reader.skip_white()
        if not (yield from reader.accept(form.opening)) and not self._inside:
            reader.put_back(reader.forget())
            return
        reader.forget()
        yield from reader.skip_white()
        plain = re.compile(rf"[^\s{re.escape(form.closing[0])}]+")
        white: list[str] = []
        while (yield from reader.peek()):
            if blank := reader.run(WHITE):
                white.append(blank)
            elif (yield from reader.accept(form.closing)):
                yield from reader.skip_white()
                return
            else:
                self._reasoning += white
                white.clear()
                self._reasoning.append(reader.run(plain) or reader.take(1))
