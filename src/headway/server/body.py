"""Reads a request's body, decodes it strictly, and encodes JSON answers."""

from __future__ import annotations

import re
from typing import Any, TypeVar

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from headway.errors import InvalidRequest
from headway.server.admission import ServerState
from headway.server.errors import BadBody
from headway.server.json_bounds import check_values
from headway.server.receiving import receive_body

NOT_SUPPORTED = frozenset(
    (
        "audio",
        "beam_width",
        "disable_parallel_tool_use",
        "documents",
        "extra_body",
        "function_call",
        "functions",
        "guided_backend",
        "guided_choice",
        "guided_decoding_backend",
        "guided_grammar",
        "guided_json",
        "guided_regex",
        "guided_whitespace_pattern",
        "kv_transfer_params",
        "length_penalty",
        "logits_processors",
        "media_io_kwargs",
        "metadata",
        "mm_processor_kwargs",
        "modalities",
        "parallel_tool_calls",
        "prediction",
        "prompt_cache_key",
        "prompt_embeds",
        "reasoning",
        "reasoning_effort",
        "request_id",
        "return_tokens_as_token_ids",
        "safety_identifier",
        "spaces_between_special_tokens",
        "structural_tag",
        "structured_outputs",
        "thinking_token_budget",
        "use_beam_search",
        "verbosity",
        "vllm_xargs",
        "web_search_options",
    )
)
"""Fields that other servers have and this one does not: their error says that, not "unknown"."""

T = TypeVar("T")

_UNKNOWN = re.compile(r"Object contains unknown field `(.*)`", re.DOTALL)
_FLOAT_FOR_INT = re.compile(r"Expected `[^`]*\bint\b[^`]*`, got `float`")
_PLACE = " - at `$"
_ONLY_NULL = "Expected `null`, got"


async def read_body(request: Request, kind: type[T], *, max_bytes: int) -> T:
    """The body as a `kind`; raises `InvalidRequest` or its kin with the field to mend."""
    _check_headers(request)
    state: ServerState = request.app.state.server
    return decode(await receive_body(request, state.bodies, max_bytes), kind)


def json_response(value: Any) -> Response:
    """A typed value as a JSON answer with status 200."""
    return Response(msgspec.json.encode(value), media_type="application/json")


def decode(data: bytes, kind: type[T]) -> T:
    """Strict JSON into `kind`: no NaN, no lone surrogate, no unknown field, not too many values.

    Of a field that is given twice the last value counts. A number without fraction, such as 1.0, is
    an integer.
    """
    check_values(data, kind)
    try:
        return _decode(data, kind)
    except msgspec.ValidationError as error:
        raise _explain(str(error)) from None
    except RecursionError:
        raise InvalidRequest("the body is nested too deeply") from None
    except UnicodeDecodeError:
        raise InvalidRequest("the body is not valid UTF-8") from None
    except ValueError as error:
        raise InvalidRequest(f"the body is not valid JSON: {error}") from None


def _decode(data: bytes, kind: type[T]) -> T:
    try:
        return msgspec.json.decode(data, type=kind)
    except msgspec.ValidationError as error:
        if not _FLOAT_FOR_INT.match(str(error)):
            raise
    # To JSON Schema, and to clients that have one kind of number, 1.0 is an integer.
    return msgspec.convert(_NUMBERS.decode(data), kind)


def _number(text: str) -> int | float:
    value = float(text)
    return int(value) if value.is_integer() and abs(value) < 2**63 else value


_NUMBERS = msgspec.json.Decoder(float_hook=_number)


def _explain(message: str) -> InvalidRequest:
    what, _, place = message.rpartition(_PLACE) if _PLACE in message else (message, "", "")
    place = place.removeprefix(".").removesuffix("`")
    unknown = _UNKNOWN.match(what)
    if unknown:
        name = _shown(unknown[1])
        field = f"{place}.{name}" if place else name
        if name in NOT_SUPPORTED:
            return InvalidRequest(f"{field} is not supported by this server", field=field)
        return InvalidRequest(f"unknown field: {field}", field=field)
    if place and what.startswith(_ONLY_NULL) and "|" not in what:
        return InvalidRequest(f"{place} is not supported by this server", field=place)
    missing = re.match(r"Object missing required field `(\w+)`", what)
    if missing:
        field = f"{place}.{missing[1]}" if place else missing[1]
        return InvalidRequest(f"{field} is required", field=field)
    # "[...]" is some value of an object whose names the client chose.
    place = _shown(place.removesuffix("[...]"))
    where = f"{place}: " if place else ""
    return InvalidRequest(where + what[:1].lower() + what[1:400], field=place or None)


def _shown(name: str) -> str:
    """A name that the client chose, short enough to repeat to it."""
    return name if len(name) <= 100 else name[:100] + "..."


def _check_headers(request: Request) -> None:
    kind = request.headers.get("content-type", "").split(";")[0].strip().lower()
    if kind != "application/json":
        raise BadBody("content-type must be application/json", status=415)
    if request.headers.get("content-encoding", "identity").lower() != "identity":
        raise BadBody("compressed bodies are not supported", status=415)
