"""llama.cpp's words for sampling, which Ollama's options share, as those of our own bodies.

Samplers that are not here may be named as long as they are switched off; so clients that send
every option with its default are served, and none gets other sampling than it asked for.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from headway.errors import InvalidRequest
from headway.server.openai.harmless import StrictBody
from headway.server.openai.schema import INT32, Penalty, Seed
from headway.types.sampling import MAX_STOP_CHARACTERS, MAX_STOP_STRINGS

RANDOM_SEEDS = (-1, 2**32 - 1)
"""Values that mean: draw one."""
StopText = Annotated[str, Meta(max_length=MAX_STOP_CHARACTERS)]
Number = Annotated[float, Meta(ge=-1e9, le=1e9)]
Whole = Annotated[int, Meta(ge=-INT32, le=INT32)]
FIELD_NAMES = {"repetition_penalty": "repeat_penalty"}
"""What our own fields of sampling are called here, where that is another name."""


class SamplerFields(StrictBody, frozen=True, kw_only=True):
    """Sampling, as llama.cpp's `/completion` and Ollama's `options` name it."""

    temperature: Annotated[
        Annotated[float, Meta(ge=-100, le=100)] | None,
        Meta(description="0 or less is greedy; the model's default for chats if absent."),
    ] = None
    top_k: Annotated[
        Annotated[int, Meta(ge=-1, le=INT32)] | None, Meta(description="0 or -1 switches it off.")
    ] = None
    top_p: Annotated[float, Meta(gt=0, le=1)] | None = None
    min_p: Annotated[float, Meta(ge=0, le=1)] | None = None
    repeat_penalty: Annotated[
        Annotated[float, Meta(gt=0, le=100)] | None,
        Meta(description="Of tokens of the prompt and the answer."),
    ] = None
    repeat_last_n: Annotated[
        Annotated[int, Meta(ge=-1, le=INT32)] | None,
        Meta(description="So many of the last tokens are penalised; -1: all; 64 if absent."),
    ] = None
    presence_penalty: Penalty | None = None
    frequency_penalty: Penalty | None = None
    seed: Annotated[Seed | None, Meta(description="-1: any.")] = None
    stop: StopText | Annotated[list[StopText], Meta(max_length=MAX_STOP_STRINGS)] | None = None
    typical_p: Annotated[Number | None, Meta(description="1: off.")] = None
    tfs_z: Annotated[Number | None, Meta(description="1: off.")] = None
    mirostat: Annotated[Whole | None, Meta(description="0: off.")] = None
    mirostat_tau: Annotated[Number | None, Meta(description="There is no Mirostat.")] = None
    mirostat_eta: Annotated[Number | None, Meta(description="There is no Mirostat.")] = None


@dataclass(frozen=True, slots=True, kw_only=True)
class OffSwitch:
    """The values of a field with which it asks for nothing, and why no other is served."""

    least: float
    most: float
    reason: str


_ABSENT = "there is no such sampler here"
OFF: dict[str, OffSwitch] = {
    "typical_p": OffSwitch(least=1, most=1, reason=_ABSENT),
    "tfs_z": OffSwitch(least=1, most=1, reason=_ABSENT),
    "mirostat": OffSwitch(least=0, most=0, reason=_ABSENT),
    "dynatemp_range": OffSwitch(
        least=0, most=0, reason="the temperature is the same for all tokens"
    ),
    "top_n_sigma": OffSwitch(least=-1, most=0, reason=_ABSENT),
    "xtc_probability": OffSwitch(least=0, most=0, reason=_ABSENT),
    "dry_multiplier": OffSwitch(least=0, most=0, reason=_ABSENT),
    "adaptive_target": OffSwitch(least=-1e9, most=-1e-9, reason=_ABSENT),
    "min_keep": OffSwitch(least=0, most=1, reason="samplers leave one token at least, and no more"),
    "n_indent": OffSwitch(
        least=0, most=0, reason="lines are not counted; describe the answer with grammar"
    ),
    "t_max_predict_ms": OffSwitch(
        least=-1, most=0, reason="an answer ends by its length or content; leave when you must"
    ),
    "sse_ping_interval": OffSwitch(least=-1, most=0, reason="streams have no pings"),
}
"""Fields of any body here that may only be off."""


def check_off(body: msgspec.Struct, *, prefix: str = "") -> None:
    """Raise `InvalidRequest` for a field that asks for what is not there.

    `prefix` goes before the field's name in the error.
    """
    for name, switch in OFF.items():
        value = getattr(body, name, None)
        if value is not None and not switch.least <= value <= switch.most:
            off = switch.most if switch.least < -1 else switch.least
            raise InvalidRequest(
                f"{prefix}{name} is not supported by this server: {switch.reason}; send "
                f"{round(off):g}, or leave it out",
                field=prefix + name,
            )


def sampling_fields(given: SamplerFields, *, prefix: str = "") -> dict[str, Any]:
    """The same as fields of a `SamplingBody`; those that are left open are missing.

    Raises `InvalidRequest` for a sampler that is not there; `prefix` goes before a field's name in
    errors.
    """
    check_off(given, prefix=prefix)
    fields: dict[str, Any] = {
        "temperature": None if given.temperature is None else max(0.0, given.temperature),
        "top_k": given.top_k,
        "top_p": given.top_p,
        "min_p": given.min_p,
        "repetition_penalty": given.repeat_penalty,
        "presence_penalty": given.presence_penalty,
        "frequency_penalty": given.frequency_penalty,
        "repeat_last_n": _window(given),
        "seed": None if given.seed in RANDOM_SEEDS else given.seed,
        "stop": _stops(given.stop),
    }
    return {name: value for name, value in fields.items() if value is not None}


LAST_TOKENS = 64
"""What both servers penalise where nothing is said of it."""
NO_PENALTIES = {"repetition_penalty": 1.0, "presence_penalty": 0.0, "frequency_penalty": 0.0}


def _window(given: SamplerFields) -> int | None:
    """Of how many tokens the penalties are that the client itself asks for."""
    penalised = (given.repeat_penalty or 1) != 1 or given.presence_penalty
    if given.repeat_last_n is None and (penalised or given.frequency_penalty):
        return LAST_TOKENS
    return given.repeat_last_n


def _stops(stop: str | Sequence[str] | None) -> list[str] | None:
    """Stop strings; empty ones, which would stop nothing, are passed over."""
    if stop is None:
        return None
    return [text for text in ([stop] if isinstance(stop, str) else stop) if text]
