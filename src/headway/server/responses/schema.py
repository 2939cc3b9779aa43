"""The body of `POST /v1/responses`, as types; names and defaults are OpenAI's, and then vLLM's.

What is not written here is refused, as in `headway.server.openai.schema`. A field whose type is
`None` alone may be spelt out as null but not used. Items of the input, and parts of their content,
may have more fields than these: they come back from answers, of other servers too. Tools are plain
objects here, since those that are not functions are refused by name, whatever they hold.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from headway.server.openai.harmless import ShortText, StrictBody
from headway.server.openai.schema import (
    INT32,
    Length,
    Logprobs,
    Penalty,
    PositiveLength,
    Priority,
    Seed,
    SloBody,
    StopText,
    Text,
    TokenId,
)
from headway.server.openai.structured import (
    JsonObjectFormat,
    StructuredOutputsBody,
    TextFormat,
)
from headway.types.sampling import MAX_LIST, MAX_STOP_STRINGS

Word = Annotated[str, Meta(max_length=64)]
MOST_METADATA = 16
"""Pairs in `metadata`, as OpenAI allows."""


class ResponseInputPart(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A piece of an item's content: a text, or the text of a refusal."""

    type: Annotated[
        Word, Meta(description="input_text, output_text, text, refusal; reasoning_text.")
    ]
    text: str | None = None
    refusal: str | None = None


Parts = str | list[ResponseInputPart]


class ResponseInputItem(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A message, a call of a function, what it returned, or the reasoning before an answer."""

    type: Annotated[
        Word, Meta(description="message, function_call, function_call_output, or reasoning.")
    ] = "message"
    id: ShortText | None = None
    role: Annotated[
        Word | None, Meta(description="Of a message: user, assistant, system, developer.")
    ] = None
    content: Parts | None = None
    call_id: ShortText | None = None
    name: ShortText | None = None
    arguments: str | None = None
    output: Parts | None = None
    summary: list[ResponseInputPart] | None = None


class ResponseSchemaFormat(
    StrictBody, frozen=True, kw_only=True, tag_field="type", tag="json_schema"
):
    """JSON of this schema; the answer matches it whether or not `strict` is given."""

    name: Annotated[str, Meta(max_length=512)]
    schema: dict[str, Any]
    description: str | None = None
    strict: bool | None = None


class ResponseTextBody(StrictBody, frozen=True, kw_only=True):
    format: TextFormat | JsonObjectFormat | ResponseSchemaFormat | None = None
    verbosity: Annotated[
        Literal["low", "medium", "high"] | None, Meta(description="The model decides.")
    ] = None


class ResponseReasoningBody(StrictBody, frozen=True, kw_only=True):
    effort: Annotated[ShortText | None, Meta(description="As `reasoning_effort` of chats.")] = None
    summary: Annotated[
        Literal["auto"] | None, Meta(description="There are none: reasoning is told as it is.")
    ] = None
    generate_summary: Literal["auto"] | None = None


class ResponseStreamOptions(StrictBody, frozen=True, kw_only=True):
    include_obfuscation: Annotated[bool | None, Meta(description="Events have no padding.")] = None


Includable = Literal[
    "message.output_text.logprobs",
    "reasoning.encrypted_content",
    "file_search_call.results",
    "web_search_call.results",
    "web_search_call.action.sources",
    "message.input_image.image_url",
    "computer_call_output.output.image_url",
    "code_interpreter_call.outputs",
]


class ResponseSamplingFields(StrictBody, frozen=True, kw_only=True):
    """Fields that mean here what they mean in chat completions, under the same names."""

    model: Annotated[
        str | None, Meta(description="One of the served names; the model that is served if absent.")
    ] = None
    temperature: Annotated[
        Annotated[float, Meta(ge=0, le=100)] | None, Meta(description="0 is greedy.")
    ] = None
    top_p: Annotated[float, Meta(gt=0, le=1)] | None = None
    top_k: Annotated[int, Meta(ge=-1, le=INT32)] | None = None
    min_p: Annotated[float, Meta(ge=0, le=1)] | None = None
    presence_penalty: Penalty | None = None
    frequency_penalty: Penalty | None = None
    repetition_penalty: Annotated[float, Meta(gt=0, le=100)] | None = None
    logit_bias: (
        Annotated[
            dict[str, Annotated[float, Meta(ge=-100, le=100)]],
            Meta(max_length=MAX_LIST, extra_json_schema={"format": "token-id-names"}),
        ]
        | None
    ) = None
    seed: Seed | None = None
    stop: StopText | Annotated[list[StopText], Meta(max_length=MAX_STOP_STRINGS)] | None = None
    stop_token_ids: Annotated[list[TokenId], Meta(max_length=MAX_LIST)] | None = None
    allowed_token_ids: Annotated[list[TokenId], Meta(min_length=1)] | None = None
    include_stop_str_in_output: bool | None = None
    ignore_eos: bool | None = None
    skip_special_tokens: bool | None = None
    min_tokens: Length | None = None
    structured_outputs: Annotated[
        StructuredOutputsBody | None, Meta(description="What the answer must match.")
    ] = None
    chat_template_kwargs: Annotated[
        dict[str, Any] | None, Meta(description="More variables for the chat template.")
    ] = None
    priority: Priority | None = None
    cache_salt: ShortText | None = None
    slo: SloBody | None = None
    stream: bool | None = None
    user: ShortText | None = None
    parallel_tool_calls: bool | None = None


class ResponsesBody(ResponseSamplingFields, frozen=True, kw_only=True):
    """`POST /v1/responses`."""

    input: Annotated[
        str | list[ResponseInputItem], Meta(description="A text, or items of a conversation.")
    ]
    instructions: Annotated[
        str | None, Meta(description="A system message before all; not kept for later responses.")
    ] = None
    previous_response_id: Annotated[
        ShortText | None, Meta(description="A kept response that this one goes on from.")
    ] = None
    store: Annotated[bool | None, Meta(description="Keep the response; true if absent.")] = None
    background: Annotated[
        bool | None, Meta(description="Answer at once, and generate meanwhile; not with `stream`.")
    ] = None
    max_output_tokens: Annotated[
        PositiveLength | None, Meta(description="As many as fit if absent.")
    ] = None
    text: ResponseTextBody | None = None
    reasoning: ResponseReasoningBody | None = None
    tools: Annotated[list[dict[str, Any]] | None, Meta(description="Functions alone.")] = None
    tool_choice: Annotated[
        Word | dict[str, Any] | None,
        Meta(description="none, auto, required, a function, or allowed_tools."),
    ] = None
    include: list[Includable] | None = None
    top_logprobs: Annotated[
        Logprobs | None, Meta(description="Alternatives per token; more than 0 asks for them.")
    ] = None
    truncation: Annotated[
        Literal["auto", "disabled"] | None,
        Meta(description="auto: of a prompt that is too long the last tokens are kept."),
    ] = None
    service_tier: Literal["auto", "default", "flex", "priority", "fast"] | None = None
    metadata: Annotated[
        Annotated[
            dict[
                Annotated[str, Meta(max_length=64)],
                Annotated[str, Meta(max_length=512)],
            ],
            Meta(max_length=MOST_METADATA),
        ]
        | None,
        Meta(description="Kept with the response, and returned."),
    ] = None
    stream_options: ResponseStreamOptions | None = None
    max_tool_calls: Annotated[
        Annotated[int, Meta(ge=1, le=INT32)] | None,
        Meta(description="Of tools that the server runs: there are none."),
    ] = None
    prompt_cache_key: Annotated[
        ShortText | None, Meta(description="Equal prefixes are found without; see `cache_salt`.")
    ] = None
    prompt_cache_retention: ShortText | None = None
    prompt_cache_options: dict[str, Any] | None = None
    safety_identifier: Annotated[ShortText | None, Meta(description="Not looked at.")] = None
    prompt: None = None
    conversation: None = None
    context_management: None = None
    moderation: None = None
    access_programs: None = None
    background_options: None = None
    image: None = None


class ResponseFunctionTool(StrictBody, frozen=True, kw_only=True, tag_field="type", tag="function"):
    """A function that the client runs."""

    name: Text
    description: str | None = None
    parameters: Annotated[
        dict[str, Any] | None, Meta(description="The JSON Schema of its arguments.")
    ] = None
    strict: bool | None = None
    output_schema: Annotated[dict[str, Any] | None, Meta(description="Not shown to the model.")] = (
        None
    )
    defer_loading: Literal[False] | None = None
    allowed_callers: list[Literal["direct"]] | None = None
    async_: Literal[False] | None = msgspec.field(name="async", default=None)
