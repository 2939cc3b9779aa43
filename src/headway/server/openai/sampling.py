"""From the fields of a request body to `SamplingParams`.

Fields pass under their own names; absent and null ones leave the default. Where OpenAI's field has
another name than the parameter it sets, errors name the field that the client used.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from headway.errors import InvalidRequest
from headway.server.openai.schema import ChatBody, CompletionBody, SamplingBody
from headway.server.openai.structured import grammar_field, structured_outputs_of
from headway.types import SamplingParams
from headway.types.sampling import WHOLE_VOCABULARY
from headway.types.sampling_defaults import SamplingDefaults

SAME_NAME = (
    "n",
    "min_tokens",
    "temperature",
    "top_p",
    "top_k",
    "min_p",
    "presence_penalty",
    "frequency_penalty",
    "repetition_penalty",
    "allowed_token_ids",
    "bad_words",
    "seed",
    "stop",
    "stop_token_ids",
    "include_stop_str_in_output",
    "ignore_eos",
    "skip_special_tokens",
    "prompt_logprobs",
    "use_beam_search",
    "length_penalty",
    "logprob_token_ids",
    "thinking_token_budget",
    "repeat_last_n",
)
COMPLETION_MAX_TOKENS = 16
MOST_NAMED = 16
"""Bad names that one error tells."""
_TOKEN_ID = re.compile(r"[0-9]{1,10}")


def completion_params(body: CompletionBody, defaults: SamplingDefaults) -> SamplingParams:
    """The parameters of a completion; echo with logprobs asks for those of the prompt too.

    `defaults` hold where the body leaves sampling open, but for its length.

    `max_tokens` 0 with echo, which scores a prompt, generates one token that is not shown.
    """
    if body.best_of is not None and body.best_of != (body.n or 1):
        raise InvalidRequest(
            "best_of other than n is not supported: all n continuations are returned, so ask for "
            "as many with n and choose by logprobs",
            field="best_of",
        )
    max_tokens = COMPLETION_MAX_TOKENS if body.max_tokens is None else body.max_tokens
    if max_tokens == 0 and body.echo:
        max_tokens = 1
    prompt_logprobs = body.prompt_logprobs
    if body.echo and body.logprobs is not None:
        if body.logprob_token_ids is not None:
            raise InvalidRequest(
                "logprob_token_ids is not available with echo and logprobs: a prompt is scored "
                "with its likeliest tokens",
                field="logprob_token_ids",
            )
        if body.use_beam_search:
            raise InvalidRequest(
                "echo with logprobs is not available with use_beam_search", field="echo"
            )
        asked = (body.logprobs, prompt_logprobs or 0)
        prompt_logprobs = WHOLE_VOCABULARY if WHOLE_VOCABULARY in asked else max(asked)
    return _params(
        body,
        {
            "max_tokens": max_tokens,
            "logprobs": body.logprobs,
            "prompt_logprobs": prompt_logprobs,
        },
        {},
        defaults,
    )


def chat_params(body: ChatBody, defaults: SamplingDefaults) -> SamplingParams:
    """The parameters of a chat completion, which may generate as much as fits.

    `defaults` hold where the body leaves sampling, or the length, open.
    """
    given = [k for k in (body.max_completion_tokens, body.max_tokens) if k is not None]
    if len(set(given)) > 1:
        raise InvalidRequest(
            "max_tokens and max_completion_tokens differ; give one", field="max_completion_tokens"
        )
    if body.top_logprobs is not None and not body.logprobs:
        raise InvalidRequest("top_logprobs needs logprobs: true", field="top_logprobs")
    longest = given[0] if given else defaults.max_tokens
    if not given and longest is not None:
        longest = max(longest, body.min_tokens or 0)
    names = {"logprobs": "top_logprobs"}
    names["max_tokens"] = length_field(body) or "max_tokens"
    return _params(
        body,
        {
            "max_tokens": longest,
            "logprobs": (body.top_logprobs or 0) if body.logprobs else None,
        },
        names,
        defaults,
    )


def prompt_params(
    body: SamplingBody,
    defaults: SamplingDefaults,
    *,
    max_tokens: int | None,
    logprobs: int | None,
) -> SamplingParams:
    """The parameters of a dialect's completion, for which its body has no fields of its own.

    `max_tokens` None is as many as fit.
    """
    return _params(body, {"max_tokens": max_tokens, "logprobs": logprobs}, {}, defaults)


def length_field(body: ChatBody) -> str | None:
    """The field that says how many tokens to generate at most; None where that is left open."""
    if body.max_completion_tokens is not None:
        return "max_completion_tokens"
    return "max_tokens" if body.max_tokens is not None else None


def check_streaming(body: SamplingBody) -> None:
    """Raises `InvalidRequest` for what streams cannot have, or what only streams can."""
    if body.stream_options is not None and not body.stream:
        raise InvalidRequest("stream_options needs stream: true", field="stream_options")
    name = "top_logprobs" if isinstance(body, ChatBody) else "logprobs"
    # Bodies that other dialects became have no such field: what they ask for is in the parameters.
    if body.stream and getattr(body, name, None) == WHOLE_VOCABULARY:
        raise InvalidRequest(
            f"{name}: those of the whole vocabulary (-1) are not available while streaming",
            field=name,
        )
    if body.stream and body.use_beam_search:
        raise InvalidRequest(
            "use_beam_search is not available while streaming: no token is settled before the "
            "search is over",
            field="use_beam_search",
        )
    if body.stream and body.prompt_logprobs is not None:
        raise InvalidRequest(
            "prompt_logprobs is not available while streaming", field="prompt_logprobs"
        )


@contextmanager
def field_aliases(names: Mapping[str, str]) -> Iterator[None]:
    """Errors raised within the block name the fields that the client used.

    `names` maps names of parameters to those of this body's fields, where the two differ.
    """
    try:
        yield
    except InvalidRequest as error:
        told = renamed(error, names)
        if told is error:
            raise
        raise told from None


def renamed(error: Exception, *tables: Mapping[str, str]) -> Exception:
    """The error with the field that the client used: looked up in each of the tables in turn."""
    for names in tables:
        field = error.field if isinstance(error, InvalidRequest) else None
        alias = names.get(field or "")
        if isinstance(error, InvalidRequest) and field is not None and alias is not None:
            error = type(error)(error.message.replace(field, alias, 1), field=alias)
    return error


def _params(
    body: SamplingBody,
    special: dict[str, int | None],
    names: dict[str, str],
    defaults: SamplingDefaults,
) -> SamplingParams:
    if body.use_beam_search and body.slo is not None:
        raise InvalidRequest(
            "slo is not available with use_beam_search: there is no token before the search is "
            "over",
            field="slo",
        )
    if body.logprob_token_ids is not None and special["logprobs"] is None:
        raise InvalidRequest("logprob_token_ids needs logprobs", field="logprob_token_ids")
    values = {name: getattr(body, name) for name in SAME_NAME}
    # A model's defaults say how to draw, which a search of beams does not.
    given: dict[str, object] = {"temperature": 0.0} if body.use_beam_search else defaults.given()
    given |= {k: v for k, v in values.items() if v is not None}
    given |= {k: v for k, v in special.items() if v is not None or k == "max_tokens"}
    if body.logit_bias:
        given["logit_bias"] = _bias(body.logit_bias)
    with field_aliases(names | {"structured_outputs": grammar_field(body)}):
        given["structured_outputs"] = structured_outputs_of(body)
        return SamplingParams(**given)  # type: ignore[arg-type]


def _bias(given: dict[str, float]) -> dict[int, float]:
    bad = [name for name in given if not _TOKEN_ID.fullmatch(name)]
    if bad:
        named = ", ".join(repr(name[:40]) for name in bad[:MOST_NAMED])
        raise InvalidRequest(f"logit_bias: no token ids: {named}", field="logit_bias")
    biases = {int(name): bias for name, bias in given.items()}
    if len(biases) < len(given):
        raise InvalidRequest("logit_bias names a token twice", field="logit_bias")
    return biases
