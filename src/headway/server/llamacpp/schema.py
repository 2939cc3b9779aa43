"""The bodies of llama.cpp's routes, as types, and what they answer.

Every field that `/completion` documents is here: it makes a difference, or it asks for nothing
(docs/dialects.md says why), or only the value that switches it off is taken.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

import msgspec
from msgspec import UNSET, Meta, UnsetType

from headway.server.llamacpp.samplers import Number, SamplerFields, Whole
from headway.server.openai.harmless import StrictBody
from headway.server.openai.schema import Message, SloBody, TokenId
from headway.server.openai.structured import Schema
from headway.server.openai.tools import Tools
from headway.server.timing import LlamaTimings
from headway.types.sampling import MAX_LIST, MAX_LOGPROBS, MAX_N

MOST_FIELDS = 64
"""Names in `response_fields`."""
MAX_BIAS_CHARACTERS = 256
"""Of a text in `logit_bias`."""
Name = Annotated[str, Meta(max_length=128)]
BiasText = Annotated[str, Meta(min_length=1, max_length=MAX_BIAS_CHARACTERS)]
Bias = Annotated[float, Meta(ge=-100, le=100)] | bool
Pieces = Annotated[list[TokenId | str], Meta(min_length=1)]


class LlamaPrompt(StrictBody, frozen=True, kw_only=True):
    """A prompt that could have media in it, but for that there are none here."""

    prompt_string: str
    multimodal_data: Annotated[list[Any], Meta(max_length=0)] | None = None


class IdleFields(SamplerFields, frozen=True, kw_only=True):
    """Fields of `/completion` that ask for nothing, or are only taken where they do."""

    n_cache_reuse: Annotated[
        Whole | None, Meta(description="Cached prefixes are found without.")
    ] = None
    id_slot: Annotated[
        Annotated[int, Meta(ge=-1, le=2**31 - 1)] | None,
        Meta(description="Every slot finds all cached prefixes."),
    ] = None
    n_keep: Annotated[Whole | None, Meta(description="The context is never shifted.")] = None
    n_discard: Annotated[Whole | None, Meta(description="The context is never shifted.")] = None
    penalize_nl: Annotated[bool | None, Meta(description="True: as any other token.")] = None
    dynatemp_range: Annotated[Number | None, Meta(description="0: off.")] = None
    dynatemp_exponent: Annotated[Number | None, Meta(description="There is no range.")] = None
    top_n_sigma: Annotated[Number | None, Meta(description="0 or less: off.")] = None
    xtc_probability: Annotated[Number | None, Meta(description="0: off.")] = None
    xtc_threshold: Annotated[Number | None, Meta(description="There is no XTC.")] = None
    dry_multiplier: Annotated[Number | None, Meta(description="0: off.")] = None
    dry_base: Annotated[Number | None, Meta(description="There is no DRY.")] = None
    dry_allowed_length: Annotated[Whole | None, Meta(description="There is no DRY.")] = None
    dry_penalty_last_n: Annotated[Whole | None, Meta(description="There is no DRY.")] = None
    dry_sequence_breakers: Annotated[
        Annotated[list[Name], Meta(max_length=MOST_FIELDS)] | None,
        Meta(description="There is no DRY."),
    ] = None
    adaptive_target: Annotated[Number | None, Meta(description="Negative: off.")] = None
    adaptive_decay: Annotated[Number | None, Meta(description="There is no adaptive-p.")] = None
    min_keep: Annotated[Whole | None, Meta(description="0 or 1.")] = None
    n_indent: Annotated[Whole | None, Meta(description="0: off.")] = None
    t_max_predict_ms: Annotated[Whole | None, Meta(description="0: off.")] = None
    sse_ping_interval: Annotated[Whole | None, Meta(description="-1: off.")] = None
    return_progress: Annotated[bool | None, Meta(description="False.")] = None
    post_sampling_probs: Annotated[bool | None, Meta(description="False.")] = None
    lora: Annotated[list[Any], Meta(max_length=0)] | None = None
    draft_most: Annotated[Whole | None, Meta(description="Drafts change no token.")] = (
        msgspec.field(name="speculative.n_max", default=None)
    )
    draft_least: Annotated[Whole | None, Meta(description="Drafts change no token.")] = (
        msgspec.field(name="speculative.n_min", default=None)
    )
    draft_probability: Annotated[Number | None, Meta(description="Drafts change no token.")] = (
        msgspec.field(name="speculative.p_min", default=None)
    )


class LlamaCompletionBody(IdleFields, frozen=True, kw_only=True):
    """`POST /completion`."""

    prompt: Annotated[
        str
        | LlamaPrompt
        | Annotated[list[str | TokenId | Pieces | LlamaPrompt], Meta(min_length=1)],
        Meta(description="A text; tokens, which texts may be among; or a list of prompts."),
    ]
    model: str | None = None
    n_predict: Annotated[
        Annotated[int, Meta(ge=-2, le=2**31 - 1)] | None,
        Meta(description="Most tokens to generate; as many as fit if negative or absent."),
    ] = None
    n_cmpl: Annotated[
        Annotated[int, Meta(ge=1, le=MAX_N)] | None,
        Meta(description="Continuations of each prompt."),
    ] = None
    stream: bool | None = None
    cache_prompt: Annotated[
        bool | None, Meta(description="False: no cached prefix is used, and none is left.")
    ] = None
    n_probs: Annotated[
        Annotated[int, Meta(ge=0, le=MAX_LOGPROBS)] | None,
        Meta(description="Log probabilities, with so many alternatives per token; 0: none."),
    ] = None
    grammar: Annotated[
        Annotated[str, Meta(max_length=2**16)] | None, Meta(description="GBNF; empty: none.")
    ] = None
    json_schema: Schema | None = None
    ignore_eos: bool | None = None
    logit_bias: Annotated[
        Annotated[list[tuple[TokenId | BiasText, Bias]], Meta(max_length=MAX_LIST)]
        | Annotated[dict[BiasText, Bias], Meta(max_length=MAX_LIST)]
        | None,
        Meta(description="Token ids, or texts for all their tokens; false: never."),
    ] = None
    return_tokens: bool | None = None
    samplers: Annotated[
        Annotated[list[Name], Meta(max_length=MOST_FIELDS)] | None,
        Meta(description="Those that are on, in llama.cpp's own order."),
    ] = None
    timings_per_token: bool | None = None
    slo: Annotated[
        SloBody | None, Meta(description="Objectives in milliseconds, and the class.")
    ] = None
    response_fields: Annotated[
        Annotated[list[Name], Meta(max_length=MOST_FIELDS)] | None,
        Meta(description="Names, as paths with slashes; all if absent or empty."),
    ] = None


class LlamaTemplateBody(StrictBody, frozen=True, kw_only=True):
    """`POST /apply-template`."""

    messages: Annotated[list[Message], Meta(min_length=1)]
    model: str | None = None
    add_generation_prompt: bool | None = None
    continue_final_message: bool | None = None
    chat_template_kwargs: dict[str, Any] | None = None
    tools: Tools | None = None


class LlamaTemplateResult(msgspec.Struct, frozen=True):
    prompt: str


class LlamaTopToken(msgspec.Struct, frozen=True, kw_only=True):
    id: int
    token: str
    bytes: list[int]
    logprob: float


class LlamaToken(msgspec.Struct, frozen=True, kw_only=True):
    """A generated token, and the likeliest in its place."""

    id: int
    token: str
    bytes: list[int]
    logprob: float
    top_logprobs: list[LlamaTopToken]


class LlamaSettings(msgspec.Struct, frozen=True, kw_only=True):
    """How an answer was sampled."""

    n_ctx: int
    model: str
    n_predict: int
    seed: int
    temperature: float
    top_k: int
    top_p: float
    min_p: float
    repeat_penalty: float
    presence_penalty: float
    frequency_penalty: float
    repeat_last_n: int
    stop: Sequence[str] = ()
    ignore_eos: bool = False
    stream: bool = False
    n_probs: int = 0
    grammar: str = ""
    samplers: tuple[str, ...] = ("penalties", "temperature", "min_p", "top_k", "top_p")
    """In the order in which they are applied here."""
    timings_per_token: bool = False
    post_sampling_probs: bool = False


class LlamaPiece(msgspec.Struct, kw_only=True):
    """An event of a stream, but for the last."""

    index: int
    content: str
    tokens: Sequence[int]
    stop: bool = False
    id_slot: int = -1
    tokens_predicted: int
    tokens_evaluated: int
    completion_probabilities: list[LlamaToken] | UnsetType = UNSET
    timings: LlamaTimings | UnsetType = UNSET


class LlamaCompletion(msgspec.Struct, kw_only=True):
    """A whole answer, or the last event of a stream."""

    index: int
    content: str
    tokens: Sequence[int]
    id_slot: int = -1
    """None in particular: slots are given anew whenever a sequence is admitted."""
    stop: bool = True
    model: str
    tokens_predicted: int
    tokens_evaluated: int
    generation_settings: LlamaSettings
    prompt: str
    has_new_line: bool
    truncated: bool
    """The context was full."""
    stop_type: str
    stopping_word: str
    tokens_cached: int
    timings: LlamaTimings
    completion_probabilities: list[LlamaToken] | UnsetType = UNSET


class LlamaErrorDetail(msgspec.Struct, frozen=True, kw_only=True):
    code: int
    message: str
    type: str
    param: str | None = None


class LlamaErrorBody(msgspec.Struct, frozen=True):
    error: LlamaErrorDetail
