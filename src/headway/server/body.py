"""Reads a request's body, never more than allowed, decodes it strictly, and encodes JSON answers.

The size limit holds while reading, whatever the headers claim. A body over the limit is read on
for a moment and thrown away, because a client that is still sending would see a reset connection
instead of the answer.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
from typing import Any, TypeVar

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from headway.errors import InvalidRequest
from headway.server.errors import BadBody
from headway.server.json_bounds import check_values

BODY_SECONDS = 120.0
"""Longest time that a client may take to send its body."""
LINGER_SECONDS = 5.0
LINGER_FACTOR = 4

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
_PLACE = " - at `$"
_ONLY_NULL = "Expected `null`, got"


async def read_body(request: Request, kind: type[T], *, max_bytes: int) -> T:
    """The body as a `kind`; raises `InvalidRequest` or its kin with the field to mend."""
    _check_headers(request)
    return decode(await _read(request, max_bytes), kind)


def json_response(value: Any) -> Response:
    """A typed value as a JSON answer with status 200."""
    return Response(msgspec.json.encode(value), media_type="application/json")


def decode(data: bytes, kind: type[T]) -> T:
    """Strict JSON into `kind`: no NaN, no lone surrogate, no unknown field, not too many values.

    Of a field that is given twice the last value counts.
    """
    check_values(data, kind)
    try:
        return msgspec.json.decode(data, type=kind)
    except msgspec.ValidationError as error:
        raise _explain(str(error)) from None
    except RecursionError:
        raise InvalidRequest("the body is nested too deeply") from None
    except UnicodeDecodeError:
        raise InvalidRequest("the body is not valid UTF-8") from None
    except ValueError as error:
        raise InvalidRequest(f"the body is not valid JSON: {error}") from None


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
    where = f"{_shown(place)}: " if place else ""
    return InvalidRequest(where + what[:1].lower() + what[1:400], field=_shown(place) or None)


def _shown(name: str) -> str:
    """A name that the client chose, short enough to repeat to it."""
    return name if len(name) <= 100 else name[:100] + "..."


def _check_headers(request: Request) -> None:
    kind = request.headers.get("content-type", "").split(";")[0].strip().lower()
    if kind != "application/json":
        raise BadBody("content-type must be application/json", status=415)
    if request.headers.get("content-encoding", "identity").lower() != "identity":
        raise BadBody("compressed bodies are not supported", status=415)


async def _read(request: Request, max_bytes: int) -> bytes:
    body = bytearray()
    more = True
    try:
        async with asyncio.timeout(BODY_SECONDS):
            while more and len(body) <= max_bytes:
                part, more = await _part(request)
                body += part
    except TimeoutError:
        raise BadBody(f"the body took over {BODY_SECONDS:g} seconds", status=408) from None
    if len(body) > max_bytes:
        if more:
            await _throw_away(request, LINGER_FACTOR * max_bytes)
        raise BadBody(f"the body is larger than {max_bytes} bytes", status=413)
    return bytes(body)


async def _throw_away(request: Request, most: int) -> None:
    size = 0
    more = True
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(LINGER_SECONDS):
            while more and size < most:
                part, more = await _part(request)
                size += len(part)


async def _part(request: Request) -> tuple[bytes, bool]:
    """The next part of the body, and whether there is more."""
    message = await request.receive()
    if message["type"] == "http.disconnect":
        raise BadBody("the client left while sending its body", status=400)
    return message.get("body", b""), message.get("more_body", False)
