"""Reads a request's body, decodes it strictly, and encodes JSON answers."""

from __future__ import annotations

import re
from typing import Any, TypeVar, cast

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from headway.errors import InvalidRequest
from headway.server.admission import ServerState
from headway.server.errors import BadBody
from headway.server.ignored_fields import IGNORED_FIELDS
from headway.server.json_bounds import check_values
from headway.server.receiving import receive_body

NOT_SUPPORTED = frozenset(
    (
        "audio",
        "beam_width",
        "disable_parallel_tool_use",
        "documents",
        "extra_body",
        "guided_backend",
        "guided_decoding_backend",
        "kv_transfer_params",
        "logits_processors",
        "media_io_kwargs",
        "mm_processor_kwargs",
        "moderation",
        "prediction",
        "prompt_embeds",
        "reasoning",
        "request_id",
        "structural_tag",
        "vllm_xargs",
        "web_search_options",
    )
)
"""Fields that other servers have and this one does not: their error says that, not "unknown"."""

T = TypeVar("T")

_REASONS = {
    "conversation": "go on from a response with previous_response_id",
    "prompt": "prompts are not kept here; send instructions and input",
    "context_management": "shorten the input yourself, or ask for truncation auto",
    "suffix": "models continue texts and fill no gaps; put what comes before into the prompt",
    "chat_template": "a template is a program; start the server with --chat-template",
    "documents": "give them in chat_template_kwargs, where the chat template reads them",
    "request_id": "the header X-Request-Id is taken, and returned",
    "functions": "send tools, which took their place",
}
"""What to do instead of fields that are not supported, where there is something."""

UNKNOWN_FIELD = "unknown field: "
MOST_WITHIN = 64
"""Unknown fields within others that are passed over in one body."""
MOST_REREAD = 2**22
"""Bytes that are read again and again to find them: a body is, after each."""
_UNKNOWN = re.compile(r"Object contains unknown field `(.*)`", re.DOTALL)
_FLOAT_FOR_INT = re.compile(r"Expected `[^`]*\bint\b[^`]*`, got `float`")
_PLACE = " - at `$"
_ONLY_NULL = "Expected `null`, got"
_ONLY_EMPTY = "Expected `array` of length <= 0"


async def read_body(request: Request, kind: type[T], *, max_bytes: int, typed: bool = True) -> T:
    """The body as a `kind`; raises `InvalidRequest` or its kin with the field to mend.

    One that is not `typed` may come without the content type of JSON, but not from a web page: with
    that type, browsers ask the server first whether a page of elsewhere may send anything.
    """
    _check_headers(request, typed=typed or "origin" in request.headers)
    state: ServerState = request.app.state.server
    data = await receive_body(request, state.bodies, max_bytes)
    if not lets_pass(request):
        return decode(data, kind)
    body, ignored = decode_known(data, kind)
    pass_over(request, ignored)
    return body


def pass_over(request: Request, ignored: list[str]) -> None:
    """Tell of fields that nobody knows and that are let pass."""
    if ignored:
        state: ServerState = request.app.state.server
        request.scope.setdefault(IGNORED_FIELDS, []).extend(ignored)
        state.ignored_fields.tell(request.scope["path"], ignored)


def lets_pass(request: Request) -> bool:
    """Whether fields that nobody knows are let pass."""
    state: ServerState = request.app.state.server
    return state.config.unknown_fields == "warn"


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


def convert(value: object, kind: type[T], *, within: str = "", strict: bool = True) -> T:
    """Decoded JSON as a `kind`; its errors name fields as those of `decode`, inside of `within`.

    Not `strict`: numbers may be texts, as in the query of a path.
    """
    try:
        return msgspec.convert(value, kind, strict=strict)
    except msgspec.ValidationError as error:
        found = _explain(str(error))
        if not within:
            raise found from None
        field = f"{within}.{found.field}" if found.field else within
        message = found.message.replace(found.field, field, 1) if found.field else found.message
        raise InvalidRequest(message, field=field) from None


def decode_known(data: bytes, kind: type[T]) -> tuple[T, list[str]]:
    """As `decode`, but passes over fields that nobody knows; returns their names.

    Those that ask for something that is not supported are errors here, too, and so is an unknown
    field within others after so many of them that finding it takes long.
    """
    check_values(data, kind)
    try:
        fields = msgspec.json.decode(data, type=dict[str, msgspec.Raw])
    except (ValueError, RecursionError):
        return decode(data, kind), []
    known = {field.encode_name for field in msgspec.structs.fields(cast(Any, kind))}
    ignored = [name for name in fields if name not in known and name not in NOT_SUPPORTED]
    for name in ignored:
        del fields[name]
    if ignored:
        data = msgspec.json.encode(fields)
    body, within = _decode_within(data, kind)
    return body, ignored + within


def _decode_within(data: bytes, kind: type[T]) -> tuple[T, list[str]]:
    """As `decode`, but without the unknown fields of what the body holds, one after the other."""
    ignored: list[str] = []
    whole: Any = None
    tries = min(MOST_WITHIN, MOST_REREAD // max(1, len(data)))
    while True:
        try:
            return (decode(data, kind) if whole is None else convert(whole, kind)), ignored
        except InvalidRequest as error:
            field = error.field or ""
            if error.message != f"{UNKNOWN_FIELD}{field}" or len(ignored) >= tries:
                raise
            if whole is None:
                whole = _NUMBERS.decode(data)
            if not _remove(whole, field):
                raise
            ignored.append(field)


def _remove(whole: Any, field: str) -> bool:
    """Take a field such as `tools[0].function.odd` out of JSON; False where there is none."""
    *steps, name = re.findall(r"\[\d+\]|[^.\[\]]+", field)
    holder = whole
    try:
        for step in steps:
            holder = holder[int(step[1:-1]) if step.startswith("[") else step]
        del holder[name]
    except (KeyError, IndexError, TypeError):  # a name with dots in it, or one that was shortened
        return False
    return True


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
            return _not_supported(field)
        return InvalidRequest(f"{UNKNOWN_FIELD}{field}", field=field)
    if place and what.startswith((_ONLY_NULL, _ONLY_EMPTY)) and "|" not in what:
        return _not_supported(place)
    missing = re.match(r"Object missing required field `(\w+)`", what)
    if missing:
        field = f"{place}.{missing[1]}" if place else missing[1]
        return InvalidRequest(f"{field} is required", field=field)
    # "[...]" is some value of an object whose names the client chose.
    place = _shown(place.removesuffix("[...]"))
    where = f"{place}: " if place else ""
    return InvalidRequest(where + what[:1].lower() + what[1:400], field=place or None)


def _not_supported(field: str) -> InvalidRequest:
    reason = _REASONS.get(field)
    more = "" if reason is None else f": {reason}"
    return InvalidRequest(f"{field} is not supported by this server{more}", field=field)


def _shown(name: str) -> str:
    """A name that the client chose, short enough to repeat to it."""
    return name if len(name) <= 100 else name[:100] + "..."


def _check_headers(request: Request, *, typed: bool) -> None:
    kind = request.headers.get("content-type", "").split(";")[0].strip().lower()
    if typed and kind != "application/json":
        raise BadBody("content-type must be application/json", status=415)
    if request.headers.get("content-encoding", "identity").lower() != "identity":
        raise BadBody("compressed bodies are not supported", status=415)
