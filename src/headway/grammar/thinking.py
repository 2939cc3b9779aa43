"""Where one answer stands in its reasoning, and which token must come to end it in time.

Like a `Matcher` it is a function of what was asked and the tokens it was given, whatever steps they
came in. Markers are looked for in the tokens' bytes, as the parser of the message looks for them in
the text: a model may write one in other tokens than the tokenizer would.
"""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy
from typing import TYPE_CHECKING, Literal

from headway.types.thinking import ThinkingBudget

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt


class ThinkingWatch:
    """Follows one answer's tokens and counts those of its reasoning."""

    def __init__(self, budget: ThinkingBudget, tokens: Sequence[bytes]) -> None:
        """`tokens` are the bytes that each token stands for, by its id."""
        self._budget = budget
        self._bytes = tokens
        self._opening, self._closing = budget.opening.encode(), budget.closing.encode()
        self._place: Literal["before", "inside", "after"] = "before"
        """Of the opening, which an answer need not have; of the closing."""
        self._taken = 0
        self._spent = 0
        """Tokens of reasoning, or before it."""
        self._closed = 0
        """How many of the closing tokens were forced, one after the other."""
        self._tail = b""
        """The last bytes, of which a marker may be a part."""

    def advance(self, tokens: Sequence[int] | npt.NDArray[np.int64]) -> None:
        """Take in an answer's tokens, of which those that it was given before are left out."""
        for token in tokens[self._taken :]:
            self._take(int(token))
        self._taken = len(tokens)

    def forced(self) -> int | None:
        """The token that must come next; None where any may."""
        reasons = self._place == "inside" or (self._place == "before" and self._budget.inside)
        if not reasons or self._spent < self._budget.tokens:
            return None
        return self._budget.closing_tokens[self._closed]

    def forced_after(self, drafts: Sequence[int]) -> int | None:
        """The same after tokens that may turn out not to be the answer's."""
        ahead = copy(self)
        for token in drafts:
            ahead._take(token)
        return ahead.forced()

    def _take(self, token: int) -> None:
        if self._place == "after":
            return
        count, due = len(self._budget.closing_tokens), self.forced()
        self._closed = (self._closed + 1) % count if token == due else 0
        self._spent += 1
        text = self._tail + (self._bytes[token] if token < len(self._bytes) else b"")
        if self._place == "before":
            self._look_for_opening(text.lstrip())
        else:
            self._look_for_closing(text)

    def _look_for_opening(self, text: bytes) -> None:
        if text.startswith(self._opening):
            self._place, self._spent = "inside", 0
            self._look_for_closing(text[len(self._opening) :])
        elif self._opening.startswith(text):
            self._tail = text
        elif self._budget.inside:
            self._place = "inside"
            self._look_for_closing(text)
        else:
            self._place = "after"  # it does not reason

    def _look_for_closing(self, text: bytes) -> None:
        if self._closing in text:
            self._place = "after"
        self._tail = text[max(0, len(text) - len(self._closing) + 1) :]
