"""llama.cpp's own paths. Those it shares with OpenAI or vLLM are in `headway.server.endpoints`."""

from __future__ import annotations

from headway.server.llamacpp.completion import llama_completion
from headway.server.llamacpp.errors import LLAMA_FORM
from headway.server.llamacpp.schema import (
    LlamaCompletion,
    LlamaCompletionBody,
    LlamaTemplateBody,
    LlamaTemplateResult,
)
from headway.server.llamacpp.state import (
    LlamaProps,
    apply_template,
    llama_props,
    llama_slots,
)
from headway.server.openapi import Endpoint
from headway.server.refusing import refusing

LLAMA_ENDPOINTS = (
    Endpoint(
        method="POST",
        path="/completion",
        sender=llama_completion,
        summary="Continue prompts, as llama.cpp's server does.",
        takes=LlamaCompletionBody,
        gives=LlamaCompletion,
        errors=LLAMA_FORM,
    ),
    Endpoint(
        method="POST",
        path="/apply-template",
        handler=apply_template,
        summary="A conversation as the text of a prompt.",
        takes=LlamaTemplateBody,
        gives=LlamaTemplateResult,
        errors=LLAMA_FORM,
    ),
    Endpoint(
        method="GET",
        path="/props",
        handler=llama_props,
        summary="The server's settings, as llama.cpp's clients ask for them.",
        gives=LlamaProps,
        errors=LLAMA_FORM,
    ),
    Endpoint(
        method="GET",
        path="/slots",
        handler=llama_slots,
        summary="The slots of the batch, and which are in use; a list of objects.",
        errors=LLAMA_FORM,
    ),
    Endpoint(
        method="POST",
        path="/infill",
        handler=refusing(
            "models continue texts and fill no gaps; put what comes before into the "
            "prompt of /completion"
        ),
        summary="Refused: models continue texts and fill no gaps.",
        described=False,
        errors=LLAMA_FORM,
    ),
)
