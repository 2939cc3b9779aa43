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
        self._bytes_of = tokenizer.known_bytes
        self._skipped = tokenizer.special_ids if skip_special_tokens else frozenset()
        self._held = b""
        """The beginning of a character."""
        self._strip_space = tokenizer.config.add_space_prefix
        self.push(prompt_tail_ids)

    def push(self, tokens: Iterable[int]) -> str:
        """The text that these tokens complete; may be empty."""
        known, skipped = self._bytes_of, self._skipped
        raw = b"".join([known[token] for token in tokens if token not in skipped])
        if self._strip_space and raw:
            raw = raw.removeprefix(b" ")
            self._strip_space = False
        if not self._held and raw.isascii():
            return raw.decode()  # at half of the cost
        raw = self._held + raw
        text, used = codecs.utf_8_decode(raw, "replace", False)
        self._held = raw[used:]
        return text

    def flush(self) -> str:
        """What is still held at the end: U+FFFD where a character was left open."""
        text, _ = codecs.utf_8_decode(self._held, "replace", True)
        self._held = b""
        return text


class StopPatterns:
    """Stop strings, made ready to be looked for in any number of streams. Never changes."""

    def __init__(self, stop: Iterable[str]) -> None:
        by_length = sorted(set(stop), key=len, reverse=True)
        self.patterns = tuple((text, _fallbacks(text)) for text in by_length)
        """The longest first: each text, and its next shorter match for each count matched."""
        self.firsts = frozenset(text[0] for text in by_length)
        """Characters that a match may begin with."""


class StopStrings:
    """Watches one stream of text for any of `stop`; `include` keeps the match in the text."""

    def __init__(self, stop: StopPatterns, include: bool = False) -> None:
        self._stop = stop
        self._include = include
        self._matched = [0] * len(stop.patterns)
        """How many characters of each stop string the text's end has matched so far."""
        self._held = ""
        self._done = False

    def push(self, text: str) -> tuple[str, str | None]:
        """The text that is safe to emit, and the stop string that ended it, if one did.

        After a match nothing more comes out. A stop string's possible beginning is held back.
        """
        if self._done:
            return "", None
        if not self._held and self._stop.firsts.isdisjoint(text):
            return text, None
        whole = self._held + text
        for place, character in enumerate(text, start=len(self._held) + 1):
            found = self._advance(character)
            if found is not None:
                self._done, self._held = True, ""
                return whole[: place if self._include else place - len(found)], found
        safe = len(whole) - max(self._matched)
        self._held = whole[safe:]
        return whole[:safe], None

    def flush(self) -> str:
        """What was held back, at the end of a text that no stop string ended."""
        held, self._held = self._held, ""
        self._matched = [0] * len(self._matched)
        return held

    def _advance(self, character: str) -> str | None:
        """The longest stop string that ends with this character, if any does."""
        matched = self._matched
        for number, (text, fallback) in enumerate(self._stop.patterns):
            state = matched[number]
            while state and text[state] != character:
                state = fallback[state]
            if text[state] == character:
                state += 1
                if state == len(text):
                    return text
            matched[number] = state
        return None


def _fallbacks(text: str) -> tuple[int, ...]:
    """For each count of matched characters, the next shorter match that they contain."""
    table = [0, 0]
    length = 0
    for character in text[1:]:
        while length and text[length] != character:
            length = table[length]
        length += text[length] == character
        table.append(length)
    return tuple(table)
