"""The Python API: `LLM` for scripts, `AsyncLLM` for servers. Text in, text out.

This room turns text into token ids and back, and nothing else: batching happens in the engine
process, and its supervision in `headway.client`.
"""

from headway.llm.async_llm import AsyncLLM
from headway.llm.outputs import CompletionOutput, Delta, Logprob, RequestOutput
from headway.llm.stream import RequestStream
from headway.llm.sync import LLM

__all__ = [
    "LLM",
    "AsyncLLM",
    "CompletionOutput",
    "Delta",
    "Logprob",
    "RequestOutput",
    "RequestStream",
]
