"""The bodies of Ollama's API, as types, and what it answers.

Every documented field is here: it makes a difference, or it asks for nothing (docs/dialects.md says
why), or only a value is taken that does not. Models are the one that the server was started with,
so what says how to load one is harmless.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

from headway.server.llamacpp.samplers import SamplerFields, Whole
from headway.server.openai.harmless import ShortText, StrictBody
from headway.server.openai.logprobs import ChatLogprob
from headway.server.openai.schema import SloBody, TokenId
from headway.server.openai.tools import Tools
from headway.types.sampling import MAX_LOGPROBS

_LOADING = Meta(description="Decided when the server starts.")
Nothing = Annotated[list[Any], Meta(max_length=0)]


class OllamaOptions(SamplerFields, frozen=True, kw_only=True):
    """`options`: how to sample, and how to load a model."""

    num_predict: Annotated[
        Annotated[int, Meta(ge=-2, le=2**31 - 1)] | None,
        Meta(description="Most tokens to generate; as many as fit if 0, negative or absent."),
    ] = None
    num_ctx: Annotated[
        Annotated[int, Meta(ge=1, le=2**31 - 1)] | None,
        Meta(description="At most the server's context, which every request has."),
    ] = None
    num_keep: Annotated[Whole | None, Meta(description="The context is never shifted.")] = None
    penalize_newline: Annotated[bool | None, Meta(description="True: as any other token.")] = None
    num_batch: Annotated[Whole | None, _LOADING] = None
    num_gpu: Annotated[Whole | None, _LOADING] = None
    main_gpu: Annotated[Whole | None, _LOADING] = None
    num_thread: Annotated[Whole | None, _LOADING] = None
    numa: Annotated[bool | None, _LOADING] = None
    low_vram: Annotated[bool | None, _LOADING] = None
    f16_kv: Annotated[bool | None, _LOADING] = None
    use_mmap: Annotated[bool | None, _LOADING] = None
    use_mlock: Annotated[bool | None, _LOADING] = None
    logits_all: Annotated[bool | None, _LOADING] = None
    vocab_only: Literal[False] | None = None
    embedding_only: Literal[False] | None = None


class OllamaCalledFunction(msgspec.Struct, frozen=True, kw_only=True):
    name: Annotated[str, Meta(min_length=1, max_length=512)]
    arguments: dict[str, Any] = {}


class OllamaToolCall(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A call that an assistant makes, or made earlier."""

    function: OllamaCalledFunction
    id: ShortText | None = None


class OllamaMessage(msgspec.Struct, frozen=True, kw_only=True):
    """One turn of a conversation; what it has besides these fields is not looked at."""

    role: Annotated[str, Meta(min_length=1, max_length=64, pattern=r"^[A-Za-z0-9_.-]+$")]
    content: str | None = None
    thinking: str | None = None
    images: Nothing | None = None
    tool_calls: list[OllamaToolCall] | None = None
    tool_name: Annotated[
        ShortText | None, Meta(description="Of the tool whose result this is.")
    ] = None
    tool_call_id: ShortText | None = None


class OllamaBody(StrictBody, frozen=True, kw_only=True):
    """What chats and completions share."""

    model: Annotated[str, Meta(min_length=1, description="`:latest` may follow the name.")]
    stream: Annotated[bool | None, Meta(description="True if absent.")] = None
    options: OllamaOptions | None = None
    format: Annotated[
        Literal["", "json"] | dict[str, Any] | None,
        Meta(description="`json` for any JSON object, or a JSON Schema."),
    ] = None
    think: Annotated[
        bool | Literal["low", "medium", "high"] | None,
        Meta(description="Whether to reason, and how much; the model decides if absent."),
    ] = None
    keep_alive: Annotated[
        str | float | None, Meta(description="The model is served till the server ends.")
    ] = None
    logprobs: bool | None = None
    top_logprobs: Annotated[
        Annotated[int, Meta(ge=0, le=MAX_LOGPROBS)] | None,
        Meta(description="Alternatives per token; needs `logprobs`."),
    ] = None
    slo: Annotated[
        SloBody | None, Meta(description="Objectives in milliseconds, and the class.")
    ] = None
    truncate: Annotated[
        Literal[False] | None, Meta(description="What does not fit is refused.")
    ] = None
    shift: Annotated[
        Literal[False] | None, Meta(description="An answer ends where the context is full.")
    ] = None


class OllamaChatBody(OllamaBody, frozen=True, kw_only=True):
    """`POST /api/chat`."""

    messages: Annotated[
        list[OllamaMessage] | None, Meta(description="None, to see whether the model is there.")
    ] = None
    tools: Annotated[Tools | None, Meta(description="What the model may call.")] = None


class OllamaGenerateBody(OllamaBody, frozen=True, kw_only=True):
    """`POST /api/generate`."""

    prompt: Annotated[
        str | None, Meta(description="None, or empty, to see whether the model is there.")
    ] = None
    system: Annotated[str | None, Meta(description="What the system says first.")] = None
    raw: Annotated[
        bool | None, Meta(description="Continue the prompt as it is, without a chat template.")
    ] = None
    suffix: Literal[""] | None = None
    template: Literal[""] | None = None
    context: Annotated[list[TokenId], Meta(max_length=0)] | None = None
    images: Nothing | None = None


class OllamaShowBody(StrictBody, frozen=True, kw_only=True):
    """`POST /api/show`."""

    model: str | None = None
    name: Annotated[str | None, Meta(description="An older word for `model`.")] = None
    verbose: Annotated[bool | None, Meta(description="There is nothing more to tell.")] = None


class OllamaReply(msgspec.Struct, kw_only=True):
    """A line of a stream, or a whole answer; counts and times come with the last.

    Durations are nanoseconds.
    """

    model: str
    created_at: str
    done: bool = False
    done_reason: str | UnsetType = UNSET
    total_duration: int | UnsetType = UNSET
    load_duration: int | UnsetType = UNSET
    prompt_eval_count: int | UnsetType = UNSET
    prompt_eval_duration: int | UnsetType = UNSET
    eval_count: int | UnsetType = UNSET
    eval_duration: int | UnsetType = UNSET
    logprobs: list[ChatLogprob] | UnsetType = UNSET


class OllamaAnswerMessage(msgspec.Struct, kw_only=True):
    role: str = "assistant"
    content: str = ""
    thinking: str | UnsetType = UNSET
    tool_calls: list[OllamaToolCall] | UnsetType = UNSET


class OllamaChatReply(OllamaReply, kw_only=True):
    message: OllamaAnswerMessage


class OllamaGenerateReply(OllamaReply, kw_only=True):
    response: str = ""
    thinking: str | UnsetType = UNSET


class OllamaError(msgspec.Struct, frozen=True):
    error: str
