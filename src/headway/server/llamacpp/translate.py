"""From llama.cpp's `/completion` to what the road of prompts takes; see `docs/dialects.md`.

Pure but for the tokenizer, which says what tokens a text in `logit_bias` has.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

from headway.errors import InvalidRequest
from headway.server.llamacpp.samplers import FIELD_NAMES, NO_PENALTIES, sampling_fields
from headway.server.llamacpp.schema import LlamaCompletionBody, LlamaPrompt
from headway.server.openai.prompts import MixedPrompt
from headway.server.openai.schema import SamplingBody
from headway.text import Tokenizer

COMPLETION_NAMES = FIELD_NAMES | {"max_tokens": "n_predict", "n": "n_cmpl", "logprobs": "n_probs"}
"""What the fields of a `SamplingBody` are called in a `LlamaCompletionBody`, where otherwise."""
SAMPLER_ORDER = (
    "penalties",
    "dry",
    "top_n_sigma",
    "top_k",
    "typ_p",
    "top_p",
    "min_p",
    "xtc",
    "temperature",
)
"""llama.cpp's, when no other is asked for. Here the temperature comes before those that cut."""
_OFF: dict[str, dict[str, float]] = {
    "penalties": NO_PENALTIES,
    "top_k": {"top_k": 0},
    "top_p": {"top_p": 1.0},
    "min_p": {"min_p": 0.0},
    "temperature": {"temperature": 1.0},
}
"""What it means for our fields that a sampler is not used."""
NEVER = -100.0
"""The bias of a token that is to be left out."""
MAX_BIAS_TEXTS = 2**15
"""Characters of all texts in `logit_bias`, which are encoded on the spot."""


def sampling_body(body: LlamaCompletionBody, tokenizer: Tokenizer, *, salt: str) -> SamplingBody:
    """What `body` asks, in our own words; `salt` keeps others from the prefixes it computes.

    Raises `InvalidRequest` that names the field for what is not served.
    """
    _check_flags(body)
    fields: dict[str, Any] = sampling_fields(body)
    if body.samplers is not None:
        fields |= _without_others(body.samplers)
    if body.logit_bias:
        fields["logit_bias"] = _biases(body.logit_bias, tokenizer)
    if body.n_predict is not None and body.n_predict > 0:
        fields["max_tokens"] = body.n_predict
    return SamplingBody(
        model=body.model,
        n=body.n_cmpl,
        stream=body.stream,
        grammar=body.grammar or None,
        json_schema=body.json_schema,
        ignore_eos=body.ignore_eos,
        slo=body.slo,
        cache_salt=salt if body.cache_prompt is False else None,
        **fields,
    )


def most_tokens(body: LlamaCompletionBody) -> int | None:
    """How many to generate at most; None: as many as fit.

    One at least is generated, which an answer of none does not show.
    """
    if body.n_predict is None or body.n_predict < 0:
        return None
    return max(1, body.n_predict)


def split_llama_prompts(body: LlamaCompletionBody) -> list[MixedPrompt]:
    """The prompts, in order; a list with tokens in it is one, and its texts are parts of that."""
    given = body.prompt
    if isinstance(given, str | LlamaPrompt):
        return [_plain(given)]
    kinds = set(map(type, given))
    if int not in kinds:
        return [_plain(each) for each in cast(Sequence[str | list[str | int] | LlamaPrompt], given)]
    if not kinds <= {int, str}:
        raise InvalidRequest(
            "prompt: token ids stand among texts, or in a list of their own", field="prompt"
        )
    return [cast(MixedPrompt, given)]


def _plain(prompt: str | list[str | int] | LlamaPrompt) -> MixedPrompt:
    return prompt.prompt_string if isinstance(prompt, LlamaPrompt) else prompt


def _check_flags(body: LlamaCompletionBody) -> None:
    refused = {
        "return_progress": (body.return_progress, "the engine tells no progress of prompts"),
        "post_sampling_probs": (
            body.post_sampling_probs,
            "probabilities are the model's own, before any sampler; leave it out",
        ),
        "penalize_nl": (body.penalize_nl is False, "penalties spare no token; send true"),
    }
    for name, (asked, reason) in refused.items():
        if asked:
            raise InvalidRequest(f"{name} is not supported by this server: {reason}", field=name)


def _without_others(samplers: Sequence[str]) -> dict[str, float]:
    """The fields that switch off what is not among these samplers."""
    unknown = [name for name in samplers if name not in SAMPLER_ORDER]
    if unknown:
        raise InvalidRequest(
            f"samplers: {unknown[0]!r} is none of {', '.join(SAMPLER_ORDER)}", field="samplers"
        )
    places = [SAMPLER_ORDER.index(name) for name in samplers]
    if places != sorted(set(places)):
        raise InvalidRequest(
            "samplers: the order cannot be chosen; name each once, in the order "
            f"{', '.join(SAMPLER_ORDER)}",
            field="samplers",
        )
    off: dict[str, float] = {}
    for name, fields in _OFF.items():
        if name not in samplers:
            off |= fields
    return off


def _biases(given: Any, tokenizer: Tokenizer) -> dict[str, float]:
    """By token ids, as OpenAI has them; a text stands for each of its tokens."""
    pairs = list(given.items()) if isinstance(given, dict) else given
    if sum(len(key) for key, _ in pairs if isinstance(key, str)) > MAX_BIAS_TEXTS:
        raise InvalidRequest(
            f"logit_bias: its texts have more than {MAX_BIAS_TEXTS} characters together",
            field="logit_bias",
        )
    found: dict[str, float] = {}
    for key, bias in pairs:
        value = _bias(bias)
        if isinstance(key, int) or (isinstance(given, dict) and key.isdecimal()):
            found[str(key)] = value
            continue
        for token in tokenizer.encode(key, add_special_tokens=False):
            found[str(token)] = value
    return found


def _bias(given: float | bool) -> float:
    if given is True:
        raise InvalidRequest("logit_bias: true is no bias; give a number", field="logit_bias")
    return NEVER if given is False else float(given)
