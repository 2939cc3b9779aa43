"""What Ollama's clients ask before they chat: which models there are, and what they can do.

There is one model, under each of its served names. What is not known of it is left empty.
"""

from __future__ import annotations

from hashlib import sha256
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from headway.errors import InvalidRequest
from headway.llm import AsyncLLM
from headway.server.admission import ServerState
from headway.server.body import json_response, read_body
from headway.server.ollama.formatter import timestamp
from headway.server.ollama.schema import OllamaShowBody
from headway.server.ollama.translate import LATEST, reasons, served_name

OLLAMA_VERSION = "0.12.11"
"""Of Ollama, whose API this is: clients ask for a least version before they use what it has."""
NEVER_EXPIRES = "9999-12-31T23:59:59Z"


class OllamaVersion(msgspec.Struct, frozen=True):
    version: str


class OllamaDetails(msgspec.Struct, frozen=True, kw_only=True):
    parent_model: str = ""
    format: str = "headway"
    family: str
    families: list[str]
    parameter_size: str = ""
    quantization_level: str


class OllamaTag(msgspec.Struct, frozen=True, kw_only=True):
    name: str
    model: str
    modified_at: str
    size: int
    """Bytes of the weights."""
    digest: str
    """Of the name: two servers of one name have the same."""
    details: OllamaDetails


class OllamaTags(msgspec.Struct, frozen=True):
    models: list[OllamaTag]


class OllamaProcess(msgspec.Struct, frozen=True, kw_only=True):
    name: str
    model: str
    size: int
    digest: str
    details: OllamaDetails
    expires_at: str = NEVER_EXPIRES
    size_vram: int
    """Bytes of the weights on a GPU."""
    context_length: int


class OllamaProcesses(msgspec.Struct, frozen=True):
    models: list[OllamaProcess]


class OllamaModel(msgspec.Struct, frozen=True, kw_only=True):
    modelfile: str = ""
    parameters: str
    template: str
    """The chat template, in Jinja's notation and not Ollama's."""
    details: OllamaDetails
    model_info: dict[str, Any]
    capabilities: list[str]
    modified_at: str


async def ollama_version(_request: Request) -> Response:
    return json_response(OllamaVersion(OLLAMA_VERSION))


async def ollama_tags(request: Request) -> Response:
    """The names under which the model is served."""
    state: ServerState = request.app.state.server
    llm = state.llm
    return json_response(
        OllamaTags(
            [
                OllamaTag(
                    name=_tagged(name),
                    model=_tagged(name),
                    modified_at=timestamp(state.created),
                    size=llm.client.info.weight_bytes,
                    digest=_digest(name),
                    details=_details(llm),
                )
                for name in state.names
            ]
        )
    )


async def ollama_ps(request: Request) -> Response:
    """The model, which is always loaded."""
    state: ServerState = request.app.state.server
    llm = state.llm
    info = llm.client.info
    return json_response(
        OllamaProcesses(
            [
                OllamaProcess(
                    name=_tagged(state.names[0]),
                    model=_tagged(state.names[0]),
                    size=info.weight_bytes,
                    digest=_digest(state.names[0]),
                    details=_details(llm),
                    size_vram=0 if info.hardware.device == "cpu" else info.weight_bytes,
                    context_length=llm.max_model_len,
                )
            ]
        )
    )


async def ollama_show(request: Request) -> Response:
    """What the model is, and what it can do."""
    state: ServerState = request.app.state.server
    body = await read_body(
        request, OllamaShowBody, max_bytes=state.config.max_body_bytes, typed=False
    )
    name = body.model or body.name
    if not name:
        raise InvalidRequest("model is required", field="model")
    served_name(state, name)
    llm = state.llm
    defaults = state.default_sampling.chat.given()
    return json_response(
        OllamaModel(
            parameters="\n".join(f"{key} {value}" for key, value in defaults.items()),
            template="" if llm.chat_template is None else llm.chat_template.source,
            details=_details(llm),
            model_info=_model_info(llm),
            capabilities=_capabilities(llm),
            modified_at=timestamp(state.created),
        )
    )


def _details(llm: AsyncLLM) -> OllamaDetails:
    family = llm.model_config.architecture
    return OllamaDetails(
        family=family,
        families=[family],
        quantization_level=llm.client.info.hardware.dtype,
    )


def _model_info(llm: AsyncLLM) -> dict[str, Any]:
    """Sizes under the names that GGUF files have for them."""
    config = llm.model_config
    sizes = {
        "context_length": llm.max_model_len,
        "embedding_length": config.hidden_size,
        "block_count": config.num_layers,
        "feed_forward_length": config.intermediate_size,
        "attention.head_count": config.num_heads,
        "attention.head_count_kv": config.num_kv_heads,
        "vocab_size": config.vocab_size,
    }
    named = {f"{config.architecture}.{name}": size for name, size in sizes.items()}
    return {
        "general.architecture": config.architecture,
        "general.basename": config.name,
        **named,
    }


def _capabilities(llm: AsyncLLM) -> list[str]:
    found = ["completion"]
    if llm.chat_template is not None:
        found.append("tools")  # described in the prompt where the template does not show them
    if reasons(llm):
        found.append("thinking")
    return found


def _tagged(name: str) -> str:
    return name if ":" in name else name + LATEST


def _digest(name: str) -> str:
    return sha256(name.encode()).hexdigest()
