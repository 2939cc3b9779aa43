"""Generated tokens to text as they come, one stream at a time, and stop strings in that text.

The pieces of text joined are the text of the whole, for any split of any sequence: bytes that do
not yet make a character are held until they do, and every token is looked at once.

Stop strings are found wherever the pieces of text are cut. The match that is complete first wins,
and of those complete at the same character the longest, so the answer depends on the text alone.
Each is matched by the algorithm of Knuth, Morris and Pratt, one state a string: every character
costs the same however much is held back.
"""

from __future__ import annotations

import codecs
from collections.abc import Iterable

from headway.text.tokenizer import Tokenizer


class Detokenizer:
    """Turns generated tokens into text.

    `prompt_tail_ids` are the prompt's last tokens (all of it will do): they settle whether the
    first generated token begins a text, and complete a character that the prompt left open.
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        prompt_tail_ids: Iterable[int] = (),
        skip_special_tokens: bool = True,
    ) -> None:
        self._bytes_of = tokenizer.token_bytes
        self._skipped = tokenizer.special_ids if skip_special_tokens else frozenset()
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        self._strip_space = tokenizer.config.add_space_prefix
        self.push(prompt_tail_ids)

    def push(self, tokens: Iterable[int]) -> str:
        """The text that these tokens complete; may be empty."""
        raw = b"".join(self._bytes_of(token) for token in tokens if token not in self._skipped)
        if self._strip_space and raw:
            raw = raw.removeprefix(b" ")
            self._strip_space = False
        return self._decoder.decode(raw)

    def flush(self) -> str:
        """What is still held at the end: U+FFFD where a character was left open."""
        text = self._decoder.decode(b"", final=True)
        self._decoder.reset()
        return text


class StopStrings:
    """Watches one stream of text for any of `stop`; `include` keeps the match in the text."""

    def __init__(self, stop: tuple[str, ...], include: bool = False) -> None:
        self._matchers = [_Matcher(text) for text in sorted(stop, key=len, reverse=True)]
        self._include = include
        self._held = ""
        self._done = False

    def push(self, text: str) -> tuple[str, str | None]:
        """The text that is safe to emit, and the stop string that ended it, if one did.

        After a match nothing more comes out. A stop string's possible beginning is held back.
        """
        if self._done:
            return "", None
        if not self._matchers:
            return text, None
        whole = self._held + text
        for place, character in enumerate(text, start=len(self._held) + 1):
            matched = [found.text for found in self._matchers if found.advance(character)]
            if matched:
                self._done, self._held = True, ""
                end = place if self._include else place - len(matched[0])
                return whole[:end], matched[0]
        safe = len(whole) - max(found.state for found in self._matchers)
        self._held = whole[safe:]
        return whole[:safe], None

    def flush(self) -> str:
        """What was held back, at the end of a text that no stop string ended."""
        held, self._held = self._held, ""
        for found in self._matchers:
            found.state = 0
        return held


class _Matcher:
    """How many characters of one stop string the text's end has matched so far."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.state = 0
        self._fallback = _fallbacks(text)

    def advance(self, character: str) -> bool:
        """Whether the stop string ends with this character. Not to be called after it did."""
        state = self.state
        while state and self.text[state] != character:
            state = self._fallback[state]
        self.state = state + (self.text[state] == character)
        return self.state == len(self.text)


def _fallbacks(text: str) -> list[int]:
    """For each count of matched characters, the next shorter match that they contain."""
    table = [0, 0]
    length = 0
    for character in text[1:]:
        while length and text[length] != character:
            length = table[length]
        length += text[length] == character
        table.append(length)
    return table
