"""How much a model is to reason, in the words of its chat template."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from headway.errors import InvalidRequest
from headway.llm import AsyncLLM
from headway.server.openai.schema import ChatBody


def template_variables(body: ChatBody, llm: AsyncLLM) -> Mapping[str, Any] | None:
    """The variables that a body gives the chat template, `reasoning_effort` among them.

    A template that does not read it may have a switch, `enable_thinking`. Where it has neither, the
    model decides, as with `verbosity`; but it cannot be told not to reason at all, which is an
    `InvalidRequest`.
    """
    given, effort = body.chat_template_kwargs, body.reasoning_effort
    if effort is None or llm.chat_template is None:
        return given
    known = llm.chat_template.facts.variables
    if "reasoning_effort" in known:
        return {"reasoning_effort": effort, **(given or {})}
    if "enable_thinking" in known:
        return {"enable_thinking": effort != "none", **(given or {})}
    if effort == "none" and llm.message_form.reasoning is not None:
        raise InvalidRequest(
            "reasoning_effort: this model's chat template has no switch for its reasoning; leave "
            "it out, or hide the reasoning with include_reasoning: false",
            field="reasoning_effort",
        )
    return given
