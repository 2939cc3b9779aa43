"""The route table: every path that the server answers, and who answers it.

llama.cpp's server answers without `/v1` too, so some of its clients leave that out.
"""

from __future__ import annotations

from headway.server.anthropic.endpoints import ANTHROPIC_ENDPOINTS
from headway.server.llamacpp.endpoints import LLAMA_ENDPOINTS
from headway.server.ollama.endpoints import OLLAMA_ENDPOINTS
from headway.server.openai.chat import ChatCompletion, chat_completions
from headway.server.openai.completions import Completion, completions
from headway.server.openai.schema import ChatBody, CompletionBody
from headway.server.openai.token_bodies import DescribedTokenizeBody, DetokenizeBody
from headway.server.openai.tokenizer_info import TokenizerInfo, tokenizer_info
from headway.server.openapi import Endpoint, docs, openapi_json
from headway.server.page.endpoints import PAGE_ENDPOINTS
from headway.server.page.news import LIVE_ENDPOINTS
from headway.server.replicas import REPLICA_ENDPOINTS
from headway.server.responses.endpoints import RESPONSES_ENDPOINTS
from headway.server.system import (
    DetokenizeResult,
    HealthStatus,
    ModelCard,
    ModelList,
    ObjectivesBody,
    ObjectivesQuery,
    ServerLoad,
    TokenizeResult,
    VersionInfo,
    detokenize,
    get_model,
    health,
    list_models,
    load,
    metrics,
    ready,
    set_slo,
    slo,
    tokenize,
    version,
)
from headway.steptime.slo_report import SloReport

ENDPOINTS = (
    Endpoint(
        method="POST",
        path="/v1/chat/completions",
        aliases=("/chat/completions",),
        sender=chat_completions,
        summary="Answer a conversation, whole or as a stream of events.",
        takes=ChatBody,
        gives=ChatCompletion,
    ),
    Endpoint(
        method="POST",
        path="/v1/completions",
        aliases=("/completions",),
        sender=completions,
        summary="Continue texts or token ids, whole or as a stream of events.",
        takes=CompletionBody,
        gives=Completion,
    ),
    Endpoint(
        method="GET",
        path="/v1/models",
        aliases=("/models",),
        handler=list_models,
        summary="The names under which the model is served.",
        gives=ModelList,
    ),
    Endpoint(
        method="GET",
        path="/v1/models/{model:path}",
        aliases=("/models/{model:path}",),
        handler=get_model,
        summary="One of them.",
        gives=ModelCard,
    ),
    Endpoint(
        method="POST",
        path="/tokenize",
        handler=tokenize,
        summary="Token ids of a text or a conversation.",
        takes=DescribedTokenizeBody,
        gives=TokenizeResult,
    ),
    Endpoint(
        method="POST",
        path="/detokenize",
        handler=detokenize,
        summary="The text of token ids.",
        takes=DetokenizeBody,
        gives=DetokenizeResult,
    ),
    Endpoint(
        method="GET",
        path="/tokenizer_info",
        handler=tokenizer_info,
        summary="The tokenizer, if the server has --enable-tokenizer-info-endpoint.",
        gives=TokenizerInfo,
    ),
    Endpoint(
        method="GET",
        path="/health",
        aliases=("/v1/health",),
        handler=health,
        summary="200 while an engine runs or is being restarted, 503 otherwise.",
        gives=HealthStatus,
    ),
    Endpoint(
        method="GET",
        path="/ready",
        handler=ready,
        summary="200 while new requests are served, 503 while starting or draining.",
        gives=HealthStatus,
    ),
    Endpoint(
        method="GET",
        path="/load",
        handler=load,
        summary="How many requests are in flight.",
        gives=ServerLoad,
    ),
    Endpoint(
        method="GET",
        path="/version",
        handler=version,
        summary="Headway's version.",
        gives=VersionInfo,
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
        path="/slo",
        handler=slo,
        summary="The objectives, the batch that they allow, and what limits it.",
        gives=SloReport,
        query=ObjectivesQuery,
    ),
    Endpoint(
        method="POST",
        path="/slo",
        handler=set_slo,
        summary="Set the objectives of requests that bring none.",
        takes=ObjectivesBody,
        gives=SloReport,
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
    *REPLICA_ENDPOINTS,
    *LIVE_ENDPOINTS,
    *RESPONSES_ENDPOINTS,
    *ANTHROPIC_ENDPOINTS,
    *LLAMA_ENDPOINTS,
    *OLLAMA_ENDPOINTS,
    *PAGE_ENDPOINTS,
)
