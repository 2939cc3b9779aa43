"""Tools, calls and answers to test formats with."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable
from random import Random
from typing import Any

import numpy as np
from hypothesis import strategies as st

from headway.grammar import GrammarCompiler, Matcher
from headway.message import (
    TOOL_FORMATS,
    AssistantMessage,
    MessageParser,
    Tool,
    ToolCall,
    ToolCallParser,
    ToolFormat,
    ToolUse,
    collect,
)
from headway.types import Grammar, Vocabulary

FORMS = tuple(dict.fromkeys(each.name for each in TOOL_FORMATS.values()))
WEATHER = Tool(
    name="get_weather",
    description="The weather in a city",
    parameters={
        "type": "object",
        "properties": {
            "city": {"type": "string"},
            "unit": {"enum": ["C", "F"]},
            "days": {"type": "array", "items": {"type": "integer"}, "maxItems": 3},
            "wind": {"type": "boolean"},
        },
        "required": ["city"],
    },
)
NOTHING = Tool(name="now")
USE = ToolUse(tools=(WEATHER, NOTHING))


def message(name: str, text: str, use: ToolUse = USE, *, cuts: Iterable[int] = ()) -> Any:
    """What a format's parser makes of a text that comes in pieces, cut at these places."""
    return read(parser(TOOL_FORMATS[name], use), text, cuts)


def parser(form: ToolFormat, use: ToolUse = USE) -> ToolCallParser:
    count = itertools.count()
    return ToolCallParser(form, use, lambda: f"id{next(count)}")


def read(reader: MessageParser, text: str, cuts: Iterable[int] = ()) -> AssistantMessage:
    places = [0, *sorted(min(cut, len(text)) for cut in cuts), len(text)]
    pieces = [text[first:last] for first, last in itertools.pairwise(places)]
    deltas = [*map(reader.feed, pieces), reader.finish()]
    found = collect(deltas)
    for call in found.tool_calls:
        assert (call.id, bool(call.name)) == (call.id or "missing", True)
    return found


def pairs(calls: Iterable[ToolCall]) -> list[tuple[str, Any]]:
    """Names and arguments, without the ids."""
    return [(call.name, json.loads(call.arguments)) for call in calls]


def call(name: str, arguments: Any) -> ToolCall:
    return ToolCall(id="", name=name, arguments=json.dumps(arguments, ensure_ascii=False))


_TEXTS = st.text(max_size=8) | st.sampled_from(
    ('a "b" \\ c', "</tool_call>", "<escape>", '<|"|>', "it's", "```", "]", "True", "\n\x00é😀")
)
_VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | _TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_TEXTS, inner, max_size=3),
    max_leaves=8,
)
CALLS = st.lists(
    st.builds(
        call,
        st.sampled_from(("get_weather", "now", "a-b.c")),
        st.dictionaries(st.sampled_from(("city", "n", "x y", "é", "")) | _TEXTS, _VALUES),
    ),
    min_size=1,
    max_size=3,
)

_LETTERS = (
    *(bytes([byte]) for byte in range(32, 127)),
    b"\n",
    *(bytes([n]) for n in range(128, 256)),
)
_ENDING = frozenset(b'"}])>')


class Walk:
    """Answers drawn from a grammar, by letters and by special tokens."""

    def __init__(self, grammar: str, special: tuple[str, ...] = ()) -> None:
        self.tokens = (*_LETTERS, *(each.encode() for each in special), b"<|end|>")
        self._end = len(self.tokens) - 1
        vocabulary = Vocabulary(
            tokens=self.tokens,
            special_ids=tuple(range(len(_LETTERS), len(self.tokens))),
            eos_token_ids=(self._end,),
        )
        compiler = GrammarCompiler(lambda: vocabulary)
        self._matcher = compiler.matcher(Grammar(kind="grammar", text=grammar))

    def allowed(self, tokens: list[int]) -> list[int]:
        """What may follow, in order; nothing where the tokens do not match."""
        self._matcher.advance(tokens)
        assert self._matcher.error is None, (self._matcher.error, self.text(tokens))
        return _set_bits(self._matcher, len(self.tokens))

    def text(self, tokens: list[int]) -> str:
        return b"".join(self.tokens[token] for token in tokens if token != self._end).decode()

    def draw(self, seed: int, *, most: int = 600) -> str | None:
        """A random answer; None if it has not ended after so many tokens."""
        random, tokens = Random(seed), list[int]()
        while len(tokens) < most:
            options = self.allowed(tokens)
            assert options, self.text(tokens)
            weights = [
                40 if n >= len(_LETTERS) or self.tokens[n][0] in _ENDING else 1 for n in options
            ]
            tokens += random.choices(options, weights)
            if tokens[-1] == self._end:
                return self.text(tokens)
        return None

    def takes(self, text: str) -> bool:
        """Whether the text is a whole answer."""
        ids = {token: n for n, token in enumerate(self.tokens)}
        tokens: list[int] = []
        place = 0
        longest = sorted(self.tokens, key=len, reverse=True)
        data = text.encode()
        while place < len(data):
            token = next(each for each in longest if data.startswith(each, place))
            if ids[token] not in self.allowed(tokens):
                return False
            tokens.append(ids[token])
            place += len(token)
        return self._end in self.allowed(tokens)


def _set_bits(matcher: Matcher, size: int) -> list[int]:
    mask = np.zeros(-(-size // 32), dtype=np.uint32)
    matcher.fill(mask.ctypes.data, mask.nbytes)
    bits = np.unpackbits(mask.astype("<u4").view(np.uint8), bitorder="little")
    found: list[int] = bits[:size].nonzero()[0].tolist()
    return found
