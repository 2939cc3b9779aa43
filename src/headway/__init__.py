"""Headway: an LLM inference engine and server that groups requests into batches.

The public names are imported on first use, so that `import headway` and the command line start
at once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

__version__ = "0.1.0"

if TYPE_CHECKING:
    from headway.llm import LLM, AsyncLLM, CompletionOutput, RequestOutput
    from headway.types import SamplingParams

__all__ = [
    "LLM",
    "AsyncLLM",
    "CompletionOutput",
    "RequestOutput",
    "SamplingParams",
    "__version__",
]


def __getattr__(name: str) -> object:
    if name == "SamplingParams":
        from headway.types import SamplingParams

        return SamplingParams
    if name in __all__:
        from headway import llm

        return getattr(llm, name)
    raise AttributeError(f"module 'headway' has no attribute '{name}'")
