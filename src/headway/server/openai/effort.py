"""How much a model is to reason: in the words of its chat template, and as a bound that is kept.

A template may have a word for it, `reasoning_effort`, or a switch, `enable_thinking`. Where it has
neither, the model decides how much, as with `verbosity`; but an end can be put to the reasoning of
one whose reasoning is told apart (`--reasoning-parser`), at once too.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from headway.errors import InvalidRequest
from headway.llm import AsyncLLM
from headway.server.openai.sampling import field_aliases
from headway.server.openai.schema import ChatBody
from headway.types import SamplingParams
from headway.types.thinking import UNLIMITED

BUDGET_FIELDS = ("thinking_token_budget", "thinking_budget_tokens", "reasoning_budget_tokens")
"""What a body may call the bound; the first is the parameter's name."""


def template_variables(body: ChatBody, llm: AsyncLLM) -> Mapping[str, Any] | None:
    """The variables that a body gives the chat template, with what it reads of how to reason."""
    given, effort = body.chat_template_kwargs, body.reasoning_effort
    if body.enable_thinking and effort == "none":
        raise InvalidRequest(
            "enable_thinking: reasoning_effort none says the opposite; give one of them",
            field="enable_thinking",
        )
    known = _template_reads(llm)
    told: dict[str, Any] = {}
    if effort is not None and "reasoning_effort" in known:
        told["reasoning_effort"] = effort
    elif effort is not None and "enable_thinking" in known:
        told["enable_thinking"] = effort != "none"
    if body.enable_thinking is not None and "enable_thinking" in known:
        told["enable_thinking"] = body.enable_thinking
    return told | dict(given or {}) if told else given


def with_thinking_budget(
    params: SamplingParams, body: ChatBody, llm: AsyncLLM, *, default: int
) -> SamplingParams:
    """The parameters with what bounds the reasoning: the body's own number, none, or the default.

    Raises `InvalidRequest` for two numbers that differ.
    """
    given = {name: getattr(body, name) for name in BUDGET_FIELDS}
    numbers = {name: number for name, number in given.items() if number is not None}
    if numbers:
        first, number = next(iter(numbers.items()))
        for other, differs in numbers.items():
            if differs != number:
                raise InvalidRequest(f"{other}: {first} has another value; give one", field=other)
        with field_aliases({BUDGET_FIELDS[0]: budget_field(body)}):
            return replace(params, thinking_token_budget=None if number == UNLIMITED else number)
    if llm.message_form.reasoning is None or params.use_beam_search:
        return params
    if _is_off(body) and not _has_switch(body, llm):
        return replace(params, thinking_token_budget=0)
    return params if default == UNLIMITED else replace(params, thinking_token_budget=default)


def budget_field(body: ChatBody) -> str:
    """The field that bounds the reasoning; the parameter's own name where none does."""
    given = (name for name in BUDGET_FIELDS if getattr(body, name) is not None)
    return next(given, BUDGET_FIELDS[0])


def _is_off(body: ChatBody) -> bool:
    return body.reasoning_effort == "none" or body.enable_thinking is False


def _has_switch(body: ChatBody, llm: AsyncLLM) -> bool:
    """Whether the chat template itself is told not to let the model reason."""
    by_effort = body.reasoning_effort == "none" and "reasoning_effort" in _template_reads(llm)
    return by_effort or "enable_thinking" in _template_reads(llm)


def _template_reads(llm: AsyncLLM) -> frozenset[str]:
    """The variables that the chat template reads."""
    return frozenset() if llm.chat_template is None else llm.chat_template.facts.variables
