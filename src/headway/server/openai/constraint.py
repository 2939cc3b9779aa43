"""What the answer of a chat must match: its tools, its format and its reasoning taken together.

Tools that must be called leave nothing for a format to say; tools that may be called stand beside
it, so the answer calls, or its content has the format (OpenAI's meaning). Other fields describe the
whole answer and go without tools. Whatever is described comes after the reasoning, if any.
"""

from __future__ import annotations

import time
from dataclasses import replace

from headway.errors import InvalidRequest
from headway.llm import AsyncLLM
from headway.message import Tool, ToolUse
from headway.server.offload import off_loop
from headway.server.openai.sampling import field_aliases
from headway.server.openai.schema import ChatBody
from headway.server.openai.structured import grammar_field
from headway.types import SamplingParams, StructuredOutputsParams

BLAME_SECONDS = 1.0
"""So long it is looked which tool is at fault."""


async def constrained(
    params: SamplingParams,
    body: ChatBody,
    use: ToolUse | None,
    llm: AsyncLLM,
    *,
    prompt: str,
    tenant: str,
) -> SamplingParams:
    """The parameters with all that the answer must match, which was found to compile.

    Raises `InvalidRequest` that names the field, of a tool too.
    """
    form, field = llm.message_form, grammar_field(body)
    given = params.structured_outputs
    content = None if given is None else given.resolved()
    if content is not None and content.kind != "json":
        content = None
    if use is not None and given is not None and (field != "response_format" or content is None):
        raise InvalidRequest(
            f"{field}: tools say what the answer must match already; give one of them, or a "
            "response_format of JSON, which stands beside tools",
            field=field,
        )
    with field_aliases({"structured_outputs": field}):
        await llm.check(params, tenant=tenant)
    special = form.special_markers(llm.tokenizer, use)
    if special:
        params = replace(params, skip_special_tokens=False)
    try:
        with field_aliases({"structured_outputs": constraint_field(body, use)}):
            # Of many tools that takes as long as many steps of the engine; of none no time.
            much = use is not None or content is not None
            text = await off_loop(
                much, form.constraint, use, prompt=prompt, content=content, special=special
            )
            if text is not None:
                params = replace(params, structured_outputs=StructuredOutputsParams(grammar=text))
                await llm.check(params, tenant=tenant)
    except InvalidRequest:
        await _blame(() if use is None else use.tools, body, llm, tenant)
        raise
    return params


def constraint_field(body: ChatBody, use: ToolUse | None) -> str:
    """The field that says what the answer must match; `use` is what the body asks of its tools."""
    return grammar_field(body) if use is None else "tools"


async def _blame(tools: tuple[Tool, ...], body: ChatBody, llm: AsyncLLM, tenant: str) -> None:
    """Raise for the first tool whose schema cannot be compiled by itself, if there is one."""
    places = {each.function.name: number for number, each in enumerate(body.tools or ())}
    end = time.monotonic() + BLAME_SECONDS
    for tool in tools:
        if time.monotonic() > end:
            return
        field = f"tools[{places[tool.name]}].function.parameters"
        with field_aliases({"structured_outputs": field}):
            alone = StructuredOutputsParams(json=tool.schema())
            await llm.check(SamplingParams(structured_outputs=alone), tenant=tenant)
