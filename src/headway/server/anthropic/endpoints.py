"""The paths of Anthropic's API."""

from __future__ import annotations

from headway.server.anthropic.messages import count_tokens, create_message
from headway.server.anthropic.objects import ANTHROPIC_FORM, AnthropicAnswer, TokensCount
from headway.server.anthropic.schema import CountTokensBody, MessagesBody
from headway.server.openapi import Endpoint

ANTHROPIC_ENDPOINTS = (
    Endpoint(
        method="POST",
        path="/v1/messages",
        sender=create_message,
        summary="Answer a conversation in Anthropic's way, whole or as a stream of events.",
        takes=MessagesBody,
        gives=AnthropicAnswer,
        errors=ANTHROPIC_FORM,
    ),
    Endpoint(
        method="POST",
        path="/v1/messages/count_tokens",
        handler=count_tokens,
        summary="How many tokens the model would read, of a conversation in Anthropic's way.",
        takes=CountTokensBody,
        gives=TokensCount,
        errors=ANTHROPIC_FORM,
    ),
)
