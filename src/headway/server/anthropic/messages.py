"""`POST /v1/messages` and `/v1/messages/count_tokens`: Anthropic's way to ask.

The key may come as `X-Api-Key`, as everywhere; the headers `anthropic-version` and `anthropic-beta`
are not looked at.
"""

from __future__ import annotations

import uuid
from functools import partial

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Send

from headway.server.admission import ServerState
from headway.server.anthropic.formatter import MessagesFormatter
from headway.server.anthropic.names import named_as_sent
from headway.server.anthropic.objects import TokensCount
from headway.server.anthropic.schema import AnthropicConversation, CountTokensBody, MessagesBody
from headway.server.anthropic.translate import TranslatedMessages, translate
from headway.server.body import json_response, read_body
from headway.server.offload import MANY, off_loop
from headway.server.openai.conversation import answer_conversation
from headway.server.openai.effort import template_variables
from headway.server.openai.fit import check_messages
from headway.server.openai.sampling import field_aliases
from headway.server.openai.schema import plain_messages
from headway.server.openai.tools import told_tools


async def create_message(request: Request, send: Send) -> None:
    """Answer a conversation; see `headway.server.openai.conversation`."""
    state: ServerState = request.app.state.server
    with named_as_sent():
        body = await read_body(request, MessagesBody, max_bytes=state.config.max_body_bytes)
    translated = await _translated(body, state)
    await answer_conversation(
        request,
        send,
        translated.chat,
        f"msg_{uuid.uuid4().hex}",
        partial(MessagesFormatter, shows_thinking=translated.shows_thinking),
        names=translated.names,
    )


async def count_tokens(request: Request) -> Response:
    """How many tokens the model would read."""
    state: ServerState = request.app.state.server
    with named_as_sent():
        body = await read_body(request, CountTokensBody, max_bytes=state.config.max_body_bytes)
    llm = state.llm
    translated = await _translated(body, state)
    chat = translated.chat
    with field_aliases(translated.names):
        state.check_model(chat.model)
        tools = told_tools(chat)
        check_messages(chat.messages, llm, tools=tools, must_fit=False)
        with field_aliases({"prompt": "messages"}):
            text = await llm.render(
                plain_messages(chat.messages),
                add_generation_prompt=chat.add_generation_prompt,
                continue_final_message=bool(chat.continue_final_message),
                tools=tools,
                variables=template_variables(chat, llm),
            )
            prompt = await llm.encode(text, add_special_tokens=False, must_fit=False)
    return json_response(TokensCount(input_tokens=len(prompt.token_ids)))


async def _translated(body: AnthropicConversation, state: ServerState) -> TranslatedMessages:
    given = sum(
        len(turn.content) if isinstance(turn.content, list) else 1 for turn in body.messages
    )
    reasons = state.alive and state.llm.message_form.reasoning is not None
    return await off_loop(given > MANY, translate, body, reasons=reasons)
