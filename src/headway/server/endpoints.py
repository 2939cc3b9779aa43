"""The route table: every path that the server answers, and who answers it."""

from __future__ import annotations

from headway.server.chat import ChatCompletion, chat_completions
from headway.server.completions import Completion, completions
from headway.server.docs import docs, openapi_json
from headway.server.endpoint import Endpoint
from headway.server.models import Model, ModelList, get_model, list_models
from headway.server.schema import ChatBody, CompletionBody, DetokenizeBody, TokenizeBody
from headway.server.state import Load, Status, Version, health, load, metrics, ready, version
from headway.server.tokens import Detokenized, Tokenized, detokenize, tokenize

ENDPOINTS = (
    Endpoint(
        method="POST",
        path="/v1/chat/completions",
        handler=chat_completions,
        summary="Answer a conversation, whole or as a stream of events.",
        takes=ChatBody,
        gives=ChatCompletion,
    ),
    Endpoint(
        method="POST",
        path="/v1/completions",
        handler=completions,
        summary="Continue texts or token ids, whole or as a stream of events.",
        takes=CompletionBody,
        gives=Completion,
    ),
    Endpoint(
        method="GET",
        path="/v1/models",
        handler=list_models,
        summary="The names under which the model is served.",
        gives=ModelList,
    ),
    Endpoint(
        method="GET",
        path="/v1/models/{model:path}",
        handler=get_model,
        summary="One of them.",
        gives=Model,
    ),
    Endpoint(
        method="POST",
        path="/tokenize",
        handler=tokenize,
        summary="Token ids of a text or a conversation.",
        takes=TokenizeBody,
        gives=Tokenized,
    ),
    Endpoint(
        method="POST",
        path="/detokenize",
        handler=detokenize,
        summary="The text of token ids.",
        takes=DetokenizeBody,
        gives=Detokenized,
    ),
    Endpoint(
        method="GET",
        path="/health",
        handler=health,
        summary="200 while the engine runs or is being restarted, 503 otherwise.",
        gives=Status,
    ),
    Endpoint(
        method="GET",
        path="/ready",
        handler=ready,
        summary="200 while new requests are served, 503 while starting or draining.",
        gives=Status,
    ),
    Endpoint(
        method="GET",
        path="/load",
        handler=load,
        summary="How many requests are in the house.",
        gives=Load,
    ),
    Endpoint(
        method="GET", path="/version", handler=version, summary="Headway's version.", gives=Version
    ),
    Endpoint(
        method="GET",
        path="/metrics",
        handler=metrics,
        summary="Prometheus metrics, under vLLM's names.",
        media_type="text/plain",
    ),
    Endpoint(
        method="GET",
        path="/docs",
        handler=docs,
        summary="This page.",
        media_type="text/html",
    ),
    Endpoint(
        method="GET",
        path="/openapi.json",
        handler=openapi_json,
        summary="This page for machines.",
        media_type="application/vnd.oai.openapi+json",
    ),
)
