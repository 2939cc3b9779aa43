"""How long an answer may reason, in the words of whoever samples it."""

from __future__ import annotations

from dataclasses import dataclass

UNLIMITED = -1
"""As a number of tokens of reasoning: the model decides."""
MAX_THINKING_TOKENS = 2**31 - 1


@dataclass(frozen=True, slots=True, kw_only=True)
class ThinkingBudget:
    """At most so many tokens of reasoning, then the text that closes it.

    Reasoning begins after `opening`, with which an answer may start (white space aside), or else
    with the answer itself where that is `inside`: the prompt has opened it. It ends with `closing`,
    which the model may write in whatever tokens it likes; once `tokens` tokens of reasoning are
    there and it has not, `closing_tokens` come one after the other. Their bytes end with that text.
    """

    tokens: int
    opening: str
    closing: str
    closing_tokens: tuple[int, ...]
    inside: bool = False
