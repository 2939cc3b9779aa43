"""Text that comes in pieces, for parsers written as generators.

Such a generator takes what it can from a `TextReader` and yields where it needs more text; whoever
drives it adds text and goes on with it. What was taken is never looked at again, and what is looked
at before it is taken is as long as a marker at most, so reading costs time linear in the text.
"""

from __future__ import annotations

import re
from collections.abc import Generator

WHITE = re.compile(r"\s+")

Reading = Generator[None, None, None]
"""A parser that yields where it needs more text."""


class TextReader:
    """What has come and is not taken yet. Nothing more comes once it is `closed`."""

    def __init__(self) -> None:
        self._text = ""
        self._place = 0
        self._kept: list[str] | None = None
        self.closed = False

    def add(self, text: str) -> None:
        self._text = self._text[self._place :] + text
        self._place = 0

    def keep(self) -> None:
        """Remember what is taken from now on."""
        self._kept = []

    def forget(self) -> str:
        """What was taken since `keep`, which is not remembered any longer."""
        kept, self._kept = self._kept or [], None
        return "".join(kept)

    def put_back(self, text: str) -> None:
        """Let the text, which was taken last, come next again."""
        if self._text.endswith(text, 0, self._place):
            self._place -= len(text)
        else:
            self._text = text + self._text[self._place :]
            self._place = 0

    def cut_off(self, expected: str) -> bool:
        """Whether the end came within this text, or before it."""
        return self.closed and expected.startswith(self._text[self._place :])

    def take(self, count: int) -> str:
        """The next characters, which have come."""
        return self._taken(self._place + count)

    def take_all(self) -> str:
        """All that has come."""
        return self._taken(len(self._text))

    def run(self, pattern: re.Pattern[str]) -> str:
        """What the pattern matches of what has come; empty for nothing."""
        found = pattern.match(self._text, self._place)
        return self._taken(found.end()) if found else ""

    def peek(self) -> Generator[None, None, str]:
        """The next character, which is not taken; empty at the end."""
        while self._place == len(self._text) and not self.closed:
            yield
        return self._text[self._place : self._place + 1]

    def accept(self, expected: str) -> Generator[None, None, bool]:
        """Take this text if it comes next. Waits only while it still can."""
        while True:
            come = self._text[self._place : self._place + len(expected)]
            if come == expected:
                self._taken(self._place + len(expected))
                return True
            if self.closed or not expected.startswith(come):
                return False
            yield

    def whole_run(self, pattern: re.Pattern[str], most: int) -> Generator[None, None, str]:
        """All that the pattern, of single characters in a row, matches until one that it does not.

        It may end once there are more than `most` characters, and has that many then.
        """
        found: list[str] = []
        size = 0
        while size <= most and (yield from self.peek()):
            piece = self.run(pattern)
            if not piece:
                break
            found.append(piece)
            size += len(piece)
        return "".join(found)

    def skip_white(self) -> Generator[None, None, None]:
        while (yield from self.peek()) and self.run(WHITE):
            pass

    def _taken(self, end: int) -> str:
        piece = self._text[self._place : end]
        self._place = end
        if self._kept is not None:
            self._kept.append(piece)
        return piece
