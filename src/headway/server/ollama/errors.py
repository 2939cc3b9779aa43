"""How Ollama's clients expect errors: a text."""

from __future__ import annotations

from headway.server.errors import ErrorForm
from headway.server.ollama.schema import OllamaError

OLLAMA_FORM = ErrorForm(
    body=OllamaError, write=lambda detail, _status, _id: OllamaError(detail.message)
)
