"""The paths of Ollama's API."""

from __future__ import annotations

from headway.server.ollama.errors import OLLAMA_FORM
from headway.server.ollama.formatter import NDJSON
from headway.server.ollama.generating import ollama_chat, ollama_generate
from headway.server.ollama.models import (
    OllamaModel,
    OllamaProcesses,
    OllamaTags,
    OllamaVersion,
    ollama_ps,
    ollama_show,
    ollama_tags,
    ollama_version,
)
from headway.server.ollama.schema import (
    OllamaChatBody,
    OllamaChatReply,
    OllamaGenerateBody,
    OllamaGenerateReply,
    OllamaShowBody,
)
from headway.server.openapi import Endpoint
from headway.server.refusing import refusing

_ONE_MODEL = "one model is served, which is chosen when the server starts"
_REFUSED = {
    ("POST", "/api/embed"): "it generates text, and no embeddings",
    ("POST", "/api/embeddings"): "it generates text, and no embeddings",
    ("POST", "/api/pull"): _ONE_MODEL,
    ("POST", "/api/push"): _ONE_MODEL,
    ("POST", "/api/create"): _ONE_MODEL,
    ("POST", "/api/copy"): f"{_ONE_MODEL}; --served-model-name gives it more names",
    ("DELETE", "/api/delete"): _ONE_MODEL,
}

OLLAMA_ENDPOINTS = (
    Endpoint(
        method="POST",
        path="/api/chat",
        sender=ollama_chat,
        summary="Answer a conversation, as Ollama does.",
        takes=OllamaChatBody,
        gives=OllamaChatReply,
        stream_type=NDJSON,
        errors=OLLAMA_FORM,
    ),
    Endpoint(
        method="POST",
        path="/api/generate",
        sender=ollama_generate,
        summary="Answer a prompt, as Ollama does.",
        takes=OllamaGenerateBody,
        gives=OllamaGenerateReply,
        stream_type=NDJSON,
        errors=OLLAMA_FORM,
    ),
    Endpoint(
        method="GET",
        path="/api/tags",
        handler=ollama_tags,
        summary="The names under which the model is served, as Ollama lists them.",
        gives=OllamaTags,
        errors=OLLAMA_FORM,
    ),
    Endpoint(
        method="GET",
        path="/api/ps",
        handler=ollama_ps,
        summary="The model that is loaded.",
        gives=OllamaProcesses,
        errors=OLLAMA_FORM,
    ),
    Endpoint(
        method="POST",
        path="/api/show",
        handler=ollama_show,
        summary="What the model is, and what it can do.",
        takes=OllamaShowBody,
        gives=OllamaModel,
        errors=OLLAMA_FORM,
    ),
    Endpoint(
        method="GET",
        path="/api/version",
        handler=ollama_version,
        summary="The version of Ollama whose API this is.",
        gives=OllamaVersion,
        errors=OLLAMA_FORM,
    ),
    *(
        Endpoint(
            method=method,
            path=path,
            handler=refusing(reason),
            summary=f"Refused: {reason}.",
            described=False,
            errors=OLLAMA_FORM,
        )
        for (method, path), reason in _REFUSED.items()
    ),
)
