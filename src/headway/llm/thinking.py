"""From a bound on reasoning, in tokens, to what the engine keeps it by, in token ids."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from headway.errors import InvalidRequest
from headway.message import ReasoningFormat, begins_inside
from headway.text import Tokenizer
from headway.types.thinking import UNLIMITED, ThinkingBudget

PROMPT_TAIL = 16
"""Last tokens of a prompt: whether the model is in the midst of its reasoning shows in them."""

_FIELD = "thinking_token_budget"


def prompt_end(tokenizer: Tokenizer, tokens: Sequence[int]) -> str:
    """The text of a prompt's last tokens."""
    return tokenizer.decode(tokens[-PROMPT_TAIL:], skip_special_tokens=False)


def thinking_budget(
    asked: int | None, form: ReasoningFormat | None, tokenizer: Tokenizer
) -> ThinkingBudget | None:
    """A budget of so many tokens, of an answer that does not begin inside; None without a bound.

    Raises `InvalidRequest` where the model's reasoning has no end that could be written.
    """
    if asked is None or asked == UNLIMITED:
        return None
    if form is None:
        raise InvalidRequest(
            f"{_FIELD}: how this model marks the end of its reasoning is not known; start the "
            "server with --reasoning-parser",
            field=_FIELD,
        )
    closing = tuple(tokenizer.encode(form.closing, add_special_tokens=False))
    if not tokenizer.bytes_of(closing).endswith(form.closing.encode()):
        raise InvalidRequest(
            f"{_FIELD}: this model's tokens cannot write {form.closing!r}, the end of reasoning",
            field=_FIELD,
        )
    return ThinkingBudget(
        tokens=asked, opening=form.opening, closing=form.closing, closing_tokens=closing
    )


def of_prompt(
    budget: ThinkingBudget | None,
    form: ReasoningFormat | None,
    tokenizer: Tokenizer,
    prompt: Sequence[int],
) -> ThinkingBudget | None:
    """The same for the answer to this prompt, which may begin inside."""
    if budget is None or form is None:
        return None
    return replace(budget, inside=begins_inside(form, prompt_end(tokenizer, prompt)))
