"""The Python API: `LLM` for scripts, `AsyncLLM` for servers. Text in, text out.

Text becomes token ids here (`render`, `encode`, `resolve`) and token ids become text (`stream`,
`collect`), and nothing else: batching happens in the engine process, which `headway.client`
supervises.
"""

from headway.llm.async_llm import AsyncLLM
from headway.llm.messages import TOOL_CALLS, MessageReader
from headway.llm.outputs import ChoiceCollector, CompletionOutput, Delta, Logprob, RequestOutput
from headway.llm.prompt import TokensPrompt
from headway.llm.rendering import ChatRenderer
from headway.llm.resolve import GenerationRequest
from headway.llm.stream import DeltaStream, RequestStream
from headway.llm.sync import LLM
from headway.llm.thinking import prompt_end
from headway.llm.tool_prompts import check_tools
from headway.text import message_text

__all__ = [
    "LLM",
    "TOOL_CALLS",
    "AsyncLLM",
    "ChatRenderer",
    "ChoiceCollector",
    "CompletionOutput",
    "Delta",
    "DeltaStream",
    "GenerationRequest",
    "Logprob",
    "MessageReader",
    "RequestOutput",
    "RequestStream",
    "TokensPrompt",
    "check_tools",
    "message_text",
    "prompt_end",
]
