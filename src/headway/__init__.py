"""Headway: an LLM inference engine and server that groups requests into batches.

The public names are imported on first use, so that `import headway` and the command line start
at once.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

__version__ = "0.1.0"

if TYPE_CHECKING:
    from headway.llm import LLM, AsyncLLM, CompletionOutput, RequestOutput
    from headway.types import SamplingParams, StructuredOutputsParams

_MODULES = {
    "LLM": "headway.llm",
    "AsyncLLM": "headway.llm",
    "CompletionOutput": "headway.llm",
    "RequestOutput": "headway.llm",
    "SamplingParams": "headway.types",
    "StructuredOutputsParams": "headway.types",
}

__all__ = [
    "LLM",
    "AsyncLLM",
    "CompletionOutput",
    "RequestOutput",
    "SamplingParams",
    "StructuredOutputsParams",
    "__version__",
]


def __getattr__(name: str) -> object:
    if name not in _MODULES:
        raise AttributeError(f"module 'headway' has no attribute '{name}'")
    return getattr(import_module(_MODULES[name]), name)
