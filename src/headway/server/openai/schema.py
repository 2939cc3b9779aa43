"""The bodies of requests, as types: what is not written here is refused with a 400 that names it.

Names and defaults are OpenAI's, and vLLM's where OpenAI has none. Types are strict (no number for
a string, no NaN, no unknown field) and every integer is bounded, so nothing odd travels further.
A field whose type is `None` alone is one that callers may spell out as null but not use. The same
types give `/openapi.json` and `/docs`, where `headway.server.openapi` puts the model's own bounds
for what has the format "token-id", "token-id-names" or "length", and the server's for "priority".
This module knows neither the engine nor HTTP.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from headway.server.openai.harmless import (
    HarmlessFields,
    ShortText,
    StrictBody,
)
from headway.server.openai.structured import (
    Choices,
    GrammarText,
    ResponseFormat,
    Schema,
    StructuredOutputsBody,
)
from headway.server.openai.tools import ToolChoice, Tools
from headway.types import ServiceClass
from headway.types.objectives import MOST_SECONDS
from headway.types.sampling import (
    ALL_TOKENS,
    MAX_LAST_TOKENS,
    MAX_LENGTH_PENALTY,
    MAX_LIST,
    MAX_LOGPROB_TOKEN_IDS,
    MAX_LOGPROBS,
    MAX_N,
    MAX_STOP_CHARACTERS,
    MAX_STOP_STRINGS,
    WHOLE_VOCABULARY,
)
from headway.types.thinking import MAX_THINKING_TOKENS, UNLIMITED

INT32 = 2**31 - 1

TokenId = Annotated[int, Meta(ge=0, le=INT32, extra_json_schema={"format": "token-id"})]
Count = Annotated[int, Meta(ge=0, le=INT32)]
Positive = Annotated[int, Meta(ge=1, le=INT32)]
Length = Annotated[Count, Meta(extra_json_schema={"format": "length"})]
PositiveLength = Annotated[Positive, Meta(extra_json_schema={"format": "length"})]
Logprobs = Annotated[int, Meta(ge=WHOLE_VOCABULARY, le=MAX_LOGPROBS)]
Penalty = Annotated[float, Meta(ge=-2, le=2)]
Text = Annotated[str, Meta(min_length=1)]
Priority = Annotated[int, Meta(ge=-(2**31), le=INT32, extra_json_schema={"format": "priority"})]
Milliseconds = Annotated[float, Meta(ge=0.001, le=MOST_SECONDS * 1000)]
Seed = Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)]
ThinkingTokens = Annotated[int, Meta(ge=UNLIMITED, le=MAX_THINKING_TOKENS)]
ReasoningEffort = Literal["none", "minimal", "low", "medium", "high", "xhigh", "max"]
StopText = Annotated[str, Meta(min_length=1, max_length=MAX_STOP_CHARACTERS)]


class StreamOptions(StrictBody, frozen=True, kw_only=True):
    include_usage: Annotated[
        bool | None, Meta(description="Send a last chunk with the counts of tokens.")
    ] = None
    continuous_usage_stats: Annotated[
        bool | None,
        Meta(description="With include_usage, send the counts so far with every chunk."),
    ] = None
    include_obfuscation: Annotated[bool | None, Meta(description="Chunks have no padding.")] = None


class SloBody(StrictBody, frozen=True, kw_only=True):
    """How soon and how steadily the answer is wanted; its class's objectives for what is absent."""

    ttft_ms: Annotated[Milliseconds | None, Meta(description="To the first token.")] = None
    tpot_ms: Annotated[Milliseconds | None, Meta(description="Per token after it, on average.")] = (
        None
    )
    itl_ms: Annotated[Milliseconds | None, Meta(description="Between any two tokens.")] = None
    deadline_ms: Annotated[Milliseconds | None, Meta(description="To the end of the answer.")] = (
        None
    )
    class_: Annotated[
        ServiceClass | None,
        Meta(description="Under overload, later ones are late first; standard if absent."),
    ] = msgspec.field(name="class", default=None)


class SamplingBody(HarmlessFields, frozen=True, kw_only=True):
    """What completions and chat completions share."""

    model: Annotated[
        str | None, Meta(description="One of the served names; the model that is served if absent.")
    ] = None
    n: Annotated[
        Annotated[int, Meta(ge=1, le=MAX_N)] | None,
        Meta(description="Continuations of each prompt."),
    ] = None
    max_tokens: Annotated[
        PositiveLength | None,
        Meta(description="Most tokens to generate; as many as fit if absent."),
    ] = None
    min_tokens: Annotated[
        Length | None, Meta(description="Fewest tokens to generate; at most `max_tokens`.")
    ] = None
    temperature: Annotated[
        Annotated[float, Meta(ge=0, le=100)] | None, Meta(description="0 is greedy; 1 if absent.")
    ] = None
    top_p: Annotated[float, Meta(gt=0, le=1)] | None = None
    top_k: Annotated[
        Annotated[int, Meta(ge=-1, le=INT32)] | None, Meta(description="0 or -1 switches it off.")
    ] = None
    min_p: Annotated[float, Meta(ge=0, le=1)] | None = None
    presence_penalty: Penalty | None = None
    frequency_penalty: Penalty | None = None
    repetition_penalty: Annotated[float, Meta(gt=0, le=100)] | None = None
    repeat_last_n: Annotated[
        Annotated[int, Meta(ge=ALL_TOKENS, le=MAX_LAST_TOKENS)] | None,
        Meta(description="Penalties count so many of the last tokens; -1, or absent: all."),
    ] = None
    logit_bias: Annotated[
        Annotated[
            dict[str, Annotated[float, Meta(ge=-100, le=100)]],
            Meta(max_length=MAX_LIST, extra_json_schema={"format": "token-id-names"}),
        ]
        | None,
        Meta(description="Token ids, as strings, with a number in [-100, 100] to add."),
    ] = None
    allowed_token_ids: Annotated[list[TokenId], Meta(min_length=1)] | None = None
    bad_words: (
        Annotated[
            list[Annotated[Text, Meta(extra_json_schema={"pattern": r"\S"})]],
            Meta(max_length=MAX_LIST),
        ]
        | None
    ) = None
    seed: Seed | None = None
    stop: StopText | Annotated[list[StopText], Meta(max_length=MAX_STOP_STRINGS)] | None = None
    stop_token_ids: Annotated[list[TokenId], Meta(max_length=MAX_LIST)] | None = None
    include_stop_str_in_output: bool | None = None
    ignore_eos: bool | None = None
    skip_special_tokens: bool | None = None
    prompt_logprobs: Annotated[
        Logprobs | None,
        Meta(description="Those of the prompt, with so many alternatives; -1: all."),
    ] = None
    logprob_token_ids: Annotated[
        Annotated[list[TokenId], Meta(min_length=1, max_length=MAX_LOGPROB_TOKEN_IDS)] | None,
        Meta(description="In place of the likeliest tokens; needs `logprobs`."),
    ] = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    return_tokens_as_token_ids: Annotated[
        bool | None, Meta(description="In log probabilities, tokens are `token_id:N`.")
    ] = None
    return_token_ids: Annotated[
        bool | None, Meta(description="Add `prompt_token_ids` and `token_ids` to each choice.")
    ] = None
    truncate_prompt_tokens: Annotated[
        Annotated[int, Meta(ge=-1, le=INT32, extra_json_schema={"not": {"const": 0}})] | None,
        Meta(description="Keep only so many of the prompt's tokens; -1: all that fit."),
    ] = None
    use_beam_search: Annotated[
        bool | None,
        Meta(description="The `n` likeliest continuations, by as many beams; not in streams."),
    ] = None
    length_penalty: Annotated[
        Annotated[float, Meta(ge=-MAX_LENGTH_PENALTY, le=MAX_LENGTH_PENALTY)] | None,
        Meta(description="Of beams: above 0 prefers longer ones; 1 if absent."),
    ] = None
    truncation_side: Annotated[
        Literal["left", "right"] | None,
        Meta(description="Where `truncate_prompt_tokens` cuts: left if absent."),
    ] = None
    priority: Annotated[
        Priority | None,
        Meta(description="-10 to 10, smaller runs earlier; needs `--scheduling-policy priority`."),
    ] = None
    cache_salt: Annotated[
        ShortText | None, Meta(description="Only requests of equal salt share cached prefixes.")
    ] = None
    user: Annotated[
        ShortText | None,
        Meta(description="Written to the log; requests of one user take turns as one caller."),
    ] = None
    slo: Annotated[
        SloBody | None,
        Meta(description="Objectives in milliseconds, and the class; a key may be bound to less."),
    ] = None
    response_format: Annotated[
        ResponseFormat | None, Meta(description="JSON that the answer must be, or text.")
    ] = None
    structured_outputs: Annotated[
        StructuredOutputsBody | None, Meta(description="What the answer must match.")
    ] = None
    guided_json: Schema | None = None
    guided_regex: GrammarText | None = None
    guided_choice: Choices | None = None
    guided_grammar: GrammarText | None = None
    guided_whitespace_pattern: GrammarText | None = None
    json_schema: Annotated[Schema | None, Meta(description="As llama.cpp has it.")] = None
    grammar: Annotated[GrammarText | None, Meta(description="GBNF, or Lark.")] = None
    thinking_token_budget: Annotated[
        ThinkingTokens | None,
        Meta(description="Most tokens of reasoning; 0: none, -1: any. Needs --reasoning-parser."),
    ] = None
    service_tier: Annotated[
        Literal["auto", "default", "flex", "priority"] | None,
        Meta(
            description="OpenAI's words for the classes standard (default), batch (flex) and "
            "interactive (priority); must not contradict `slo.class`."
        ),
    ] = None


class CompletionBody(SamplingBody, frozen=True, kw_only=True):
    """`POST /v1/completions`."""

    prompt: Annotated[
        Text
        | Annotated[
            list[Text | TokenId | Annotated[list[TokenId], Meta(min_length=1)]],
            Meta(
                min_length=1,
                extra_json_schema={
                    "anyOf": [{"items": {"type": kind}} for kind in ("string", "integer", "array")]
                },
            ),
        ],
        Meta(description="A text, token ids, or a list of either."),
    ]
    max_tokens: Annotated[
        Length | None,
        Meta(description="Most tokens to generate; 16 if absent; 0 needs `echo` and no `stream`."),
    ] = None
    echo: Annotated[bool | None, Meta(description="Put the prompt before the answer.")] = None
    logprobs: Annotated[
        Logprobs | None,
        Meta(description="With so many alternatives per token; -1: all."),
    ] = None
    best_of: Annotated[Positive | None, Meta(description="Equal to n, or absent.")] = None
    add_special_tokens: Annotated[
        bool | None, Meta(description="Add the model's own, such as BOS; true if absent.")
    ] = None
    suffix: None = None


class TextPart(msgspec.Struct, frozen=True, kw_only=True):
    """A piece of a message; what it has besides is not looked at."""

    type: Literal["text"]
    text: str


class ToolFunction(msgspec.Struct, frozen=True, kw_only=True):
    name: Annotated[str, Meta(min_length=1, max_length=512)]
    arguments: Annotated[
        str | dict[str, Any], Meta(description="JSON, as text or as what it says.")
    ] = ""


class PastToolCall(msgspec.Struct, frozen=True, kw_only=True):
    """A call that an assistant made earlier."""

    function: ToolFunction
    id: ShortText | None = None
    type: Literal["function"] = "function"


class Message(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One turn of a conversation; what it has besides these fields is not looked at."""

    role: Annotated[
        Annotated[str, Meta(min_length=1, max_length=64, pattern=r"^[A-Za-z0-9_.-]+$")],
        Meta(description="system, developer, user, assistant, tool, or what the template knows."),
    ]
    content: Annotated[
        str | list[TextPart] | None, Meta(description="Null in an assistant's message alone.")
    ] = None
    name: ShortText | None = None
    tool_call_id: ShortText | None = None
    tool_calls: Annotated[
        list[PastToolCall] | None,
        Meta(description="Written as the model writes calls, where the chat template shows none."),
    ] = None
    reasoning_content: str | None = None
    reasoning: str | None = None


class Prediction(StrictBody, frozen=True, kw_only=True):
    """Text that the answer is expected to repeat, wholly or in parts."""

    type: Literal["content"]
    content: str | list[TextPart]


def plain_messages(messages: Sequence[Message]) -> list[dict[str, Any]]:
    """Messages as chat templates expect them: dictionaries of the fields that are given.

    Content that is absent is empty, and arguments of calls are data where they are JSON.
    """
    plain: list[dict[str, Any]] = msgspec.to_builtins(messages)
    for message in plain:
        message.setdefault("content", "")
        if not message.get("tool_calls", True):
            del message["tool_calls"]  # templates ask whether there is such a field
        for call in message.get("tool_calls", ()):
            call["function"]["arguments"] = _data(call["function"]["arguments"])
    return plain


def _data(arguments: Any) -> Any:
    if isinstance(arguments, str):
        try:
            return msgspec.json.decode(arguments or "{}")
        except (msgspec.DecodeError, RecursionError):
            return arguments
    return arguments


class HarmlessChatFields(SamplingBody, frozen=True, kw_only=True):
    """Fields of chats that ask for nothing here; see `headway.server.openai.harmless`."""

    modalities: Annotated[list[Literal["text"]] | None, Meta(description="Answers are text.")] = (
        None
    )
    functions: Annotated[
        Annotated[list[Any], Meta(max_length=0)] | None, Meta(description="See `tools`.")
    ] = None
    function_call: Annotated[
        Literal["none", "auto"] | None, Meta(description="See `tool_choice`.")
    ] = None


class ChatBody(HarmlessChatFields, frozen=True, kw_only=True):
    """`POST /v1/chat/completions`."""

    messages: Annotated[list[Message], Meta(min_length=1)]
    max_completion_tokens: Annotated[
        PositiveLength | None,
        Meta(description="Most tokens to generate; as many as fit if absent."),
    ] = None
    logprobs: bool | None = None
    top_logprobs: Annotated[
        Logprobs | None, Meta(description="Alternatives per token, -1 for all; needs `logprobs`.")
    ] = None
    echo: Annotated[
        bool | None, Meta(description="Put the last message before the answer if the model's own.")
    ] = None
    add_generation_prompt: bool | None = None
    continue_final_message: Annotated[
        bool | None,
        Meta(description="Go on with the last message; `add_generation_prompt` must be false."),
    ] = None
    add_special_tokens: Annotated[
        bool | None, Meta(description="Add BOS although the template does; false if absent.")
    ] = None
    chat_template_kwargs: Annotated[
        dict[str, Any] | None, Meta(description="More variables for the chat template.")
    ] = None
    chat_template: None = None
    tools: Annotated[Tools | None, Meta(description="What the model may call.")] = None
    tool_choice: Annotated[
        ToolChoice | None,
        Meta(description="auto if absent: the model decides; with none it hears of no tool."),
    ] = None
    parallel_tool_calls: Annotated[
        bool | None, Meta(description="False: one call at most; true if absent.")
    ] = None
    include_reasoning: Annotated[
        bool | None, Meta(description="False leaves it out of the answer; true if absent.")
    ] = None
    reasoning_effort: Annotated[
        ReasoningEffort | None,
        Meta(description="For chat templates that read it; none: no reasoning, by any."),
    ] = None
    enable_thinking: Annotated[
        bool | None,
        Meta(description="For chat templates that read it; false: no reasoning, by any."),
    ] = None
    timings_per_token: Annotated[
        bool | None, Meta(description="Add llama.cpp's `timings`, in streams to every chunk.")
    ] = None
    thinking_budget_tokens: Annotated[
        ThinkingTokens | None, Meta(description="llama.cpp's name of `thinking_token_budget`.")
    ] = None
    reasoning_budget_tokens: Annotated[ThinkingTokens | None, Meta(description="The same.")] = None
    prediction: Annotated[
        Prediction | None,
        Meta(description="What the answer may repeat: it comes sooner if so, and is the same."),
    ] = None
