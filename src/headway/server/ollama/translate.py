"""From Ollama's bodies to those of the roads of conversations and prompts; see docs/dialects.md."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from headway.errors import InvalidRequest
from headway.llm import AsyncLLM
from headway.server.admission import ServerState
from headway.server.llamacpp.samplers import FIELD_NAMES, sampling_fields
from headway.server.ollama.schema import (
    OllamaBody,
    OllamaChatBody,
    OllamaGenerateBody,
    OllamaMessage,
    OllamaOptions,
    OllamaToolCall,
)
from headway.server.openai.schema import ChatBody, Message, PastToolCall, SamplingBody, ToolFunction
from headway.server.openai.structured import JsonFormat

LATEST = ":latest"
_OPTIONS = (
    "temperature",
    "top_k",
    "top_p",
    "min_p",
    "presence_penalty",
    "frequency_penalty",
    "repeat_last_n",
    "seed",
    "stop",
)
OLLAMA_NAMES = (
    {name: f"options.{name}" for name in _OPTIONS}
    | {ours: f"options.{theirs}" for ours, theirs in FIELD_NAMES.items()}
    | {
        "max_tokens": "options.num_predict",
        "json_schema": "format",
        "response_format": "format",
        "reasoning_effort": "think",
    }
)
"""What the fields of a `ChatBody` are called here, where that is another name."""
GENERATE_NAMES = OLLAMA_NAMES | {"messages": "prompt"}


def served_name(state: ServerState, name: str) -> str:
    """A model's name without the tag that all have; raises `ModelNotFound` for another model."""
    bare = name if name in state.names else name.removesuffix(LATEST)
    state.check_model(bare)
    return bare


def chat_body(body: OllamaChatBody, llm: AsyncLLM, model: str) -> ChatBody:
    """A conversation in our own words; `model` is the served name.

    Raises `InvalidRequest` that names the field for what is not served.
    """
    return ChatBody(
        messages=_messages(body.messages or (), llm),
        tools=body.tools,
        **_fields(body, llm, model),
    )


def generate_body(body: OllamaGenerateBody, llm: AsyncLLM, model: str) -> ChatBody:
    """A prompt as a conversation of one turn, and what the system says before."""
    messages = [Message(role="system", content=body.system)] if body.system else []
    messages.append(Message(role="user", content=body.prompt))
    return ChatBody(messages=messages, **_fields(body, llm, model))


def raw_body(body: OllamaGenerateBody, llm: AsyncLLM, model: str) -> SamplingBody:
    """How to continue a prompt that no template is to touch."""
    if body.system:
        raise InvalidRequest(
            "raw does not go with system: say it in the prompt, as the model is to read it",
            field="raw",
        )
    if body.think is not None:
        raise InvalidRequest("raw does not go with think: the prompt decides", field="think")
    if body.top_logprobs is not None and not body.logprobs:
        raise InvalidRequest("top_logprobs needs logprobs: true", field="top_logprobs")
    fields = _fields(body, llm, model)
    for name in ("logprobs", "top_logprobs"):  # the road of prompts takes them apart
        fields.pop(name, None)
    return SamplingBody(**fields)


def wants_raw(body: OllamaGenerateBody, llm: AsyncLLM) -> bool:
    """Whether the prompt is continued as it is: as asked, or for lack of a chat template."""
    return bool(body.raw) or (llm.chat_template is None and not body.system)


def options_of(body: OllamaBody) -> OllamaOptions:
    return body.options or OllamaOptions()


def _fields(body: OllamaBody, llm: AsyncLLM, model: str) -> dict[str, Any]:
    options = options_of(body)
    _check_context(options, llm.max_model_len)
    fields: dict[str, Any] = sampling_fields(options, prefix="options.")
    if options.num_predict is not None and options.num_predict > 0:
        fields["max_tokens"] = options.num_predict
    if body.format == "json":
        fields["response_format"] = JsonFormat()
    elif isinstance(body.format, dict):
        fields["json_schema"] = body.format
    if body.slo is not None:
        fields["slo"] = body.slo
    if body.logprobs is not None:
        fields["logprobs"] = body.logprobs
    if body.top_logprobs is not None:
        fields["top_logprobs"] = body.top_logprobs
    if body.think is not None:
        fields["reasoning_effort"] = _effort(body.think, llm)
    return fields | {"model": model, "stream": body.stream is not False}


def _check_context(options: OllamaOptions, max_model_len: int) -> None:
    if options.num_ctx is not None and options.num_ctx > max_model_len:
        raise InvalidRequest(
            f"options.num_ctx: the context has {max_model_len} tokens; ask for no more, or start "
            "the server with --max-model-len",
            field="options.num_ctx",
        )
    if options.penalize_newline is False:
        raise InvalidRequest(
            "options.penalize_newline is not supported by this server: penalties spare no token; "
            "send true, or leave it out",
            field="options.penalize_newline",
        )


def _effort(think: bool | str, llm: AsyncLLM) -> str:
    """How much to reason, in OpenAI's words.

    Raises `InvalidRequest` where reasoning is asked for and the model is not known to.
    """
    if think and not reasons(llm):
        raise InvalidRequest(
            "think: neither does the model's chat template have a switch for it, nor is there a "
            "--reasoning-parser; leave it out",
            field="think",
        )
    if isinstance(think, str):
        return think
    return "medium" if think else "none"


def reasons(llm: AsyncLLM) -> bool:
    """Whether the model is known to reason before it answers."""
    known = frozenset[str]() if llm.chat_template is None else llm.chat_template.facts.variables
    switched = known & {"enable_thinking", "reasoning_effort"}
    return bool(switched) or llm.message_form.reasoning is not None


def _messages(given: Sequence[OllamaMessage], llm: AsyncLLM) -> list[Message]:
    shows_names = llm.chat_template is not None and llm.chat_template.reads("name")
    return [
        Message(
            role=each.role,
            content=each.content or "",
            # Results are told apart by their order, where the template shows no names.
            name=each.tool_name if shows_names else None,
            tool_call_id=each.tool_call_id,
            tool_calls=_calls(each.tool_calls),
            reasoning_content=each.thinking or None,
        )
        for each in given
    ]


def _calls(given: Sequence[OllamaToolCall] | None) -> list[PastToolCall] | None:
    if not given:
        return None
    return [
        PastToolCall(
            id=each.id,
            function=ToolFunction(name=each.function.name, arguments=each.function.arguments),
        )
        for each in given
    ]
