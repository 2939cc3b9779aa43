"""Speculation as users write it: JSON with the keys of vLLM's `--speculative-config`.

What vLLM has and Headway has not is refused by its name, with what to use instead. Keys that may be
left out because they ask for what is done anyway are taken at that value alone.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import fields
from typing import Any, Final

from headway.errors import InvalidRequest, did_you_mean
from headway.types.speculation import SpeculativeConfig

FIELD = "speculative_config"
DEFAULT: Final = SpeculativeConfig(method="ngram")
"""Where nothing is said."""
OFF: Final = SpeculativeConfig(num_speculative_tokens=0)
_MOST_CHARACTERS = 2**16
_KEYS = tuple(each.name for each in fields(SpeculativeConfig))
_LOOKUP = ("ngram", "[ngram]")
"""As vLLM names the method, and as its older versions had it in place of a model."""
_TRAINED = (
    *("eagle", "eagle3", "medusa", "mlp_speculator", "mtp", "dflash", "dspark"),
    "extract_hidden_states",
)
"""Methods that need weights which were trained for one model, to read its hidden states."""
_INSTEAD = {"ngram_gpu": "ngram", "suffix": "ngram, which looks in the prompt and the answer"}
_ONLY: Mapping[str, tuple[object, str]] = {
    "draft_tensor_parallel_size": (1, "one process computes a model"),
    "tensor_parallel_size": (1, "one process computes a model"),
    "parallel_drafting": (False, "a draft model drafts token after token"),
    "use_heterogeneous_vocab": (False, "a draft model has the tokenizer of the model"),
    "rejection_sample_method": ("standard", "drafts are compared with what is sampled"),
}
"""Keys of vLLM that are taken at one value; why no other."""
_REFUSED = {
    "quantization": "a draft model is stored in eight bits, or in four with --dtype int4",
    "revision": "give model as a directory, or as owner/name of the hub",
    "num_speculative_tokens_per_batch_size": "how many drafts pay is predicted for every step",
}
"""What to do instead of keys that are not known, where there is something."""


def chosen_speculation(
    wanted: bool | None, given: str | Mapping[str, Any] | None
) -> SpeculativeConfig:
    """What a switch (None: not touched) and a configuration amount to.

    Raises `InvalidRequest` naming what is wrong, also where one contradicts the other.
    """
    if given is None:
        return OFF if wanted is False else DEFAULT
    config = parse_speculation(given)
    if wanted is False:
        raise InvalidRequest(
            f"{FIELD} would have no effect with speculation off: leave one of them out", field=FIELD
        )
    return config


def as_json(values: Mapping[str, Any]) -> str:
    """What a configuration says, as text; raises `InvalidRequest` for what JSON cannot say."""
    try:
        return json.dumps(dict(values))
    except (TypeError, ValueError) as error:
        raise _wrong(str(error)) from error


def parse_speculation(given: str | Mapping[str, Any]) -> SpeculativeConfig:
    """A configuration from a JSON object, or from what it holds.

    Raises `InvalidRequest` that names the key, and for a method that there is not what to use.
    """
    values = {key: value for key, value in _object(given).items() if value is not None}
    for key, (only, why) in _ONLY.items():
        if values.pop(key, only) != only:
            raise _wrong(f"{key} can only be {json.dumps(only)}: {why}")
    for key in values:
        if key in _REFUSED:
            raise _wrong(f"{key} is not supported: {_REFUSED[key]}")
        if key not in _KEYS:
            known = ", ".join(_KEYS)
            raise _wrong(f"there is no {key!r:.60} among {known}{did_you_mean(key, _KEYS)}")
    values["method"] = _method(values)
    if values["method"] == "ngram":
        _complete_lookup(values)
    try:
        return SpeculativeConfig(**values)
    except InvalidRequest as error:
        raise InvalidRequest(_named(error.message), field=FIELD) from error


def _object(given: str | Mapping[str, Any]) -> Mapping[str, Any]:
    values: Any = given
    if isinstance(given, str):
        try:
            values = json.loads(given[: _MOST_CHARACTERS + 1])
        except (ValueError, RecursionError) as error:
            raise _wrong(f"not valid JSON: {error}") from error
    if not isinstance(values, Mapping) or not all(isinstance(key, str) for key in values):
        raise _wrong('it must be a JSON object, such as {"method": "ngram"}')
    return values


def _method(values: dict[str, Any]) -> object:
    """The method that is named, or follows from what else is; drops a model that is none."""
    if values.get("model") in _LOOKUP:
        del values["model"]
        values.setdefault("method", "ngram")
    method = values.get("method", "draft_model" if "model" in values else "ngram")
    if not isinstance(method, str):
        return method
    if method in _TRAINED or method.endswith("_mtp"):
        raise _wrong(
            f"the method {method} needs weights trained for it, which are not run: use ngram, or "
            "draft_model with a smaller model of the same tokenizer"
        )
    if method in _INSTEAD:
        raise _wrong(f"there is no method {method}: use {_INSTEAD[method]}")
    return method


def _complete_lookup(values: dict[str, Any]) -> None:
    """Where one bound is given beyond the default of the other, both are that."""
    longest, shortest = values.get("prompt_lookup_max"), values.get("prompt_lookup_min")
    if shortest is None and isinstance(longest, int):
        values["prompt_lookup_min"] = min(longest, DEFAULT.prompt_lookup_min)
    if longest is None and isinstance(shortest, int):
        values["prompt_lookup_max"] = max(shortest, DEFAULT.prompt_lookup_max)


def _wrong(message: str) -> InvalidRequest:
    return InvalidRequest(f"{FIELD}: {message}", field=FIELD)


def _named(message: str) -> str:
    """A message that says whose key is at fault."""
    return message if message.startswith(FIELD) else f"{FIELD}: {message}"
