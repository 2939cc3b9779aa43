"""How requests are sampled that leave it open: what a model's authors say, or the operator.

The names of a model's files (`generation_config.json`) are read here, and values are checked as
those of requests are. Knows neither files nor endpoints.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any

from headway.errors import InvalidRequest, did_you_mean
from headway.types.sampling import SamplingParams

_FILE_NAMES = {"max_tokens": "max_new_tokens"}
"""What a parameter is called in generation configs, where that is another name."""
_WHOLE = ("top_k", "max_tokens")
_MOST_CHARACTERS = 2**16
_MOST = 2**31 - 1


@dataclass(frozen=True, slots=True, kw_only=True)
class SamplingDefaults:
    """Parameters as in `SamplingParams`; None where nothing is said, and its own default holds."""

    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    min_p: float | None = None
    repetition_penalty: float | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    max_tokens: int | None = None
    """Of chats that name no length; it bounds none that do."""

    def given(self) -> dict[str, Any]:
        """What is said, by the parameters' names."""
        values = {each.name: getattr(self, each.name) for each in fields(self)}
        return {name: value for name, value in values.items() if value is not None}

    def over(self, others: SamplingDefaults) -> SamplingDefaults:
        """These, and for what they leave open the others."""
        return replace(others, **self.given())

    @property
    def shapes_answers(self) -> bool:
        """Whether anything is said of how tokens are chosen."""
        return bool(self.given().keys() - {"max_tokens"})


SAFE_CHAT = SamplingDefaults(temperature=0.8, top_k=40, top_p=0.95, min_p=0.05)
"""For chats with a model whose files say nothing: the values that llama.cpp takes. Small models
answer nonsense where every token of the vocabulary may be drawn."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DefaultSampling:
    """The defaults of a served model, by what is asked of it."""

    chat: SamplingDefaults = field(default_factory=SamplingDefaults)
    completions: SamplingDefaults = field(default_factory=SamplingDefaults)


def file_defaults(values: Mapping[str, Any], *, field: str) -> SamplingDefaults:
    """Those of a generation config's entries that are about sampling; null says nothing.

    Raises `InvalidRequest`, naming `field` and the entry, for a value that no request could have.
    """
    found: dict[str, Any] = {}
    for each in fields(SamplingDefaults):
        name = _FILE_NAMES.get(each.name, each.name)
        value = values.get(name)
        if value is not None:
            found[each.name] = _checked(each.name, value, f"{field}: {name}", field)
    return SamplingDefaults(**found)


def parse_defaults(text: str | Mapping[str, Any], *, field: str) -> SamplingDefaults:
    """Defaults from a JSON object (or what it holds) of generation config entries.

    Raises `InvalidRequest` naming `field`, also for an entry that is not about sampling.
    """
    values: Any = text
    if isinstance(text, str):
        try:
            values = json.loads(text[: _MOST_CHARACTERS + 1])
        except (ValueError, RecursionError) as error:
            raise InvalidRequest(f"{field}: not valid JSON: {error}", field=field) from error
    if not isinstance(values, Mapping):
        raise InvalidRequest(
            f'{field} must be a JSON object, such as {{"temperature": 0.7}}', field=field
        )
    known = [_FILE_NAMES.get(each.name, each.name) for each in fields(SamplingDefaults)]
    for name in values:
        if name not in known:
            raise InvalidRequest(
                f"{field}: {name!r:.60} is no default of sampling; there are {', '.join(known)}"
                f"{did_you_mean(str(name), known)}",
                field=field,
            )
    return file_defaults(values, field=field)


def _checked(name: str, value: Any, shown: str, field: str) -> float:
    kinds = int if name in _WHOLE else (int, float)
    if isinstance(value, bool) or not isinstance(value, kinds):
        word = "a whole number" if name in _WHOLE else "a number"
        raise InvalidRequest(f"{shown} must be {word}, not {value!r:.40}", field=field)
    if name in _WHOLE and value > _MOST:
        raise InvalidRequest(f"{shown} must be at most {_MOST}, not {value!r:.40}", field=field)
    given: dict[str, Any] = {name: value}
    try:
        SamplingParams(**given)
    except InvalidRequest as error:
        raise InvalidRequest(f"{field}: {error.message}", field=field) from error
    return value
