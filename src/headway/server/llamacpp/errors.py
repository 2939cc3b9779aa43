"""How llama.cpp's clients expect errors: with the status as their code."""

from __future__ import annotations

from headway.server.errors import ErrorDetail, ErrorForm
from headway.server.llamacpp.schema import LlamaErrorBody, LlamaErrorDetail

_CONTEXT = "context_length_exceeded"


def llama_error(detail: ErrorDetail, status: int) -> LlamaErrorBody:
    """What is wrong, in llama.cpp's form; `param` is our addition."""
    kind = "exceed_context_size_error" if detail.code == _CONTEXT else detail.type
    return LlamaErrorBody(
        LlamaErrorDetail(
            code=status,
            message=detail.message,
            type="server_error" if status == 500 else kind,
            param=detail.param,
        )
    )


LLAMA_FORM = ErrorForm(
    body=LlamaErrorBody, write=lambda detail, status, _id: llama_error(detail, status)
)
