"""What an endpoint is, and what all of them take and return: `GET /openapi.json` and `/docs`.

The OpenAPI description is made from the types of the bodies, for machines; the page is made from
the description, for people. It needs nothing from anywhere else: no script, no font, no other host.
It reads on a phone and on a desk, in light and in dark.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Send

from headway import __version__
from headway.server.admission import ServerState
from headway.server.body import json_response
from headway.server.errors import OPENAI_FORM, ErrorForm
from headway.server.middleware import is_protected

INT32 = 2**31 - 1
REFERENCE = "#/components/schemas/{name}"
STATUSES = {
    400: "A field is wrong, unknown or not supported; `param` names it.",
    401: "The API key is missing or wrong.",
    404: "The model is not served here, or there is no such response or replica.",
    408: "The body took too long to come.",
    409: "That does not go with what the server does at present; the message says why.",
    413: "The body is too large.",
    415: "The body is not JSON.",
    429: "The queue is full, or large bodies are, or the answer would be too late; `Retry-After` "
    "says when to try again.",
    431: "The headers are too large.",
    503: "The server starts, drains or has too many connections, or no token came within the queue "
    "timeout; `Retry-After` says when to try again.",
}


Handler = Callable[[Request], Awaitable[Response]]
"""Returns its response."""
SendingHandler = Callable[[Request, Send], Awaitable[None]]
"""Sends its response itself, piece by piece, and returns once it is sent."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """One path of the server. It has a `handler`, or, where it generates, a `sender`.

    `takes` and `gives` are the types of the JSON body and answer, `query` that of what follows a
    question mark in the path; None where there is none. `media_type` is that of an answer that is
    not JSON, `stream_type` that of a stream. `errors` holds for paths below as well. `conflicts`:
    whether it is done depends on what the server does at present. At its `aliases` it answers just
    as at its path, but they are not described, nor is what only says why it refuses.
    """

    method: str
    path: str
    aliases: tuple[str, ...] = ()
    handler: Handler | None = None
    sender: SendingHandler | None = None
    summary: str
    takes: type | None = None
    gives: type | None = None
    query: type | None = None
    media_type: str = "application/json"
    stream_type: str = "text/event-stream"
    errors: ErrorForm = OPENAI_FORM
    conflicts: bool = False
    described: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelBounds:
    """What the model, its chat template and the server's settings bound in bodies."""

    vocab_size: int
    max_model_len: int
    template_variables: frozenset[str] | None = None
    """Those that `chat_template_kwargs` may set; None: any."""
    unread_fields: frozenset[str] = frozenset()
    """Fields of messages that the chat template does not look at, and which are refused."""
    most_priority: int = 0
    """Priorities that the server takes are from minus this to this."""


def describe(
    endpoints: Sequence[Endpoint], *, keys: bool = False, bounds: ModelBounds | None = None
) -> dict[str, Any]:
    """The whole document, OpenAPI 3.1.

    `keys`: a key is needed on protected paths. `bounds` are None while there is no model yet.
    """
    types: list[Any] = []
    shown = [endpoint for endpoint in endpoints if endpoint.described]
    for endpoint in shown:
        bodies = (endpoint.takes, endpoint.gives, endpoint.errors.body)
        types += [kind for kind in bodies if kind is not None]
    schemas, components = msgspec.json.schema_components(types, ref_template=REFERENCE)
    references = dict(zip(types, schemas, strict=True))
    _set_bounds(components, bounds)
    if bounds is not None:
        _set_template_bounds(components, bounds)
    paths: dict[str, dict[str, Any]] = {}
    for endpoint in shown:
        path = endpoint.path.replace(":path}", "}")
        operation = _operation(endpoint, references, keys=keys)
        paths.setdefault(path, {})[endpoint.method.lower()] = operation
    return {
        "openapi": "3.1.0",
        "info": {"title": "Headway", "version": __version__},
        "paths": paths,
        "components": {
            "schemas": components,
            "headers": {
                "RetryAfter": {
                    "description": "Seconds after which to try again.",
                    "schema": {"type": "integer", "minimum": 1},
                }
            },
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer"},
                "header": {"type": "apiKey", "in": "header", "name": "X-Api-Key"},
            },
        },
    }


def _operation(endpoint: Endpoint, references: dict[type, Any], *, keys: bool) -> dict[str, Any]:
    content: dict[str, Any] = {endpoint.media_type: {}}
    if endpoint.gives is not None:
        content = {"application/json": {"schema": references[endpoint.gives]}}
    if endpoint.sender is not None:
        content[endpoint.stream_type] = {}
    operation: dict[str, Any] = {
        "summary": endpoint.summary,
        "responses": {"200": {"description": "OK", "content": content}},
    }
    statuses = {431, 503}
    parameters = _parameters(endpoint)
    if parameters:
        operation["parameters"] = parameters
        statuses |= {404}
        statuses |= {400} if endpoint.query is not None or endpoint.method == "POST" else set()
    if endpoint.takes is not None:
        body = {"application/json": {"schema": references[endpoint.takes]}}
        operation["requestBody"] = {"required": True, "content": body}
        statuses |= {400, 404, 408, 413, 415, 429}
    if endpoint.conflicts:
        statuses |= {400, 409}
    if is_protected(endpoint.path):
        statuses |= {401} if keys else set()
        operation["security"] = [{"bearer": []}, {"header": []}] if keys else []
    error = {"application/json": {"schema": references[endpoint.errors.body]}}
    for status in sorted(statuses):
        answer: dict[str, Any] = {"description": STATUSES[status], "content": error}
        if status in (429, 503):
            answer["headers"] = {"Retry-After": {"$ref": "#/components/headers/RetryAfter"}}
        operation["responses"][str(status)] = answer
    return operation


def _parameters(endpoint: Endpoint) -> list[dict[str, Any]]:
    """What an endpoint's path holds, and what may follow it."""
    found: list[dict[str, Any]] = [
        {
            "name": name,
            "in": "path",
            "required": True,
            "schema": {"type": "string", "minLength": 1},
        }
        for name in re.findall(r"{(\w+)", endpoint.path)
    ]
    if endpoint.query is not None:
        _, components = msgspec.json.schema_components([endpoint.query])
        fields = components[endpoint.query.__name__]["properties"]
        found += [{"name": name, "in": "query", "schema": form} for name, form in fields.items()]
    return found


def _set_bounds(schema: Any, bounds: ModelBounds | None) -> None:
    """Replace the formats that the bodies' types have for what only the model bounds."""
    if isinstance(schema, list):
        for each in schema:
            _set_bounds(each, bounds)
    if not isinstance(schema, dict):
        return
    for each in schema.values():
        _set_bounds(each, bounds)
    kind = schema.get("format")
    if kind == "priority":
        del schema["format"]
        if bounds is not None:
            schema |= {"minimum": -bounds.most_priority, "maximum": bounds.most_priority}
    elif kind in ("token-id", "token-id-names", "length"):
        del schema["format"]
        if kind == "token-id-names":
            last = INT32 if bounds is None else bounds.vocab_size - 1
            schema["propertyNames"] = {"pattern": f"^({numbers_up_to(last)})$"}
        elif bounds is not None:
            token = kind == "token-id"
            schema["maximum"] = (bounds.vocab_size if token else bounds.max_model_len) - 1


def _set_template_bounds(components: dict[str, Any], bounds: ModelBounds) -> None:
    for schema in components.values():
        fields = schema.get("properties", {})
        variables = fields.get("chat_template_kwargs")
        if variables is not None and bounds.template_variables is not None:
            known = dict.fromkeys(sorted(bounds.template_variables), True)
            closed = {"type": "object", "properties": known, "additionalProperties": False}
            variables["anyOf"] = [closed, {"type": "null"}]
    for name in bounds.unread_fields:
        components["Message"]["properties"][name] = {"type": "null", "default": None}


def numbers_up_to(last: int) -> str:
    """A regular expression for the decimal numbers in [0, last]."""
    digits = str(last)
    shorter = [f"[1-9][0-9]{{{length}}}" for length in range(len(digits) - 1)]
    same = [
        f"{digits[:place]}[{int(place == 0)}-{int(digit) - 1}][0-9]{{{len(digits) - place - 1}}}"
        for place, digit in enumerate(digits)
        if int(digit) > int(place == 0)
    ]
    return "|".join(("0", *shorter, *same, digits))


STYLE = """
:root{color-scheme:light dark;--soft:color-mix(in srgb,currentColor 12%,transparent)}
body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:0 auto;padding:1rem}
h1{font-size:1.6rem}h2{font-size:1.15rem;margin:0}section{border-top:1px solid var(--soft);
padding:1rem 0}code,pre{font-family:ui-monospace,monospace;font-size:.92em;overflow-wrap:anywhere}
pre{background:var(--soft);padding:.8rem;border-radius:.4rem;white-space:pre-wrap}
.method{display:inline-block;min-width:3.2rem;font-weight:700}
dl{margin:.5rem 0 0 1rem}dt{margin-top:.5rem}dd{margin:0 0 0 1rem;opacity:.85}
summary{cursor:pointer;margin-top:.5rem}nav a{display:inline-block;margin-right:1rem}
.type{opacity:.7}.need{font-weight:700}
"""
HEADERS = {
    "content-security-policy": "default-src 'none'; style-src 'unsafe-inline'",
    "x-content-type-options": "nosniff",
}


async def openapi_json(request: Request) -> Response:
    return json_response(request.app.state.openapi)


async def docs(request: Request) -> Response:
    state: ServerState = request.app.state.server
    return Response(page(request.app.state.openapi, state.names[0]), 200, HEADERS, "text/html")


def page(description: dict[str, Any], model: str) -> str:
    """The description as one HTML page; `model` appears in the example."""
    schemas = description["components"]["schemas"]
    operations = [
        (path, method, operation)
        for path, methods in description["paths"].items()
        for method, operation in methods.items()
    ]
    links = "".join(f'<a href="#{_anchor(p, m)}">{escape(p)}</a>' for p, m, _ in operations)
    sections = "".join(_section(*operation, schemas) for operation in operations)
    info = description["info"]
    title = escape(f"{info['title']} {info['version']}")
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>{title}</title><style>{STYLE}</style></head><body><h1>{title}</h1>"
        "<p>Names and shapes are OpenAI's, with vLLM's additions. A field that is not listed "
        "here is refused. For machines: <a href='openapi.json'>openapi.json</a>.</p>"
        f"<pre>{escape(_example(model))}</pre><nav>{links}</nav><main>{sections}</main>"
        "</body></html>"
    )


def _example(model: str) -> str:
    return (
        "from openai import OpenAI\n\n"
        'client = OpenAI(base_url="http://localhost:8000/v1", api_key="none")\n'
        "answer = client.chat.completions.create(\n"
        f"    model={model!r},\n"
        '    messages=[{"role": "user", "content": "What is the capital of France?"}],\n'
        ")\nprint(answer.choices[0].message.content)"
    )


def _section(path: str, method: str, operation: dict[str, Any], schemas: dict[str, Any]) -> str:
    parts = [
        f'<section id="{_anchor(path, method)}"><h2><span class="method">{method.upper()}</span>'
        f"<code>{escape(path)}</code></h2><p>{escape(operation['summary'])}</p>"
    ]
    if "requestBody" in operation:
        parts.append(_fields("Body", operation["requestBody"]["content"], schemas))
    for status, answer in operation["responses"].items():
        if status == "200":
            parts.append(_fields("Answer", answer.get("content", {}), schemas))
    errors = [
        f"<dt><code>{status}</code></dt><dd>{escape(answer['description'])}</dd>"
        for status, answer in operation["responses"].items()
        if status != "200"
    ]
    if errors:
        parts.append(f"<details><summary>Errors</summary><dl>{''.join(errors)}</dl></details>")
    return "".join(parts) + "</section>"


def _fields(title: str, content: dict[str, Any], schemas: dict[str, Any]) -> str:
    schema = content.get("application/json", {}).get("schema")
    if schema is None:
        return ""
    found = schemas[schema["$ref"].rsplit("/", 1)[-1]]
    needed = set(found.get("required", ()))
    rows = []
    for name, field in found.get("properties", {}).items():
        note = field.get("description", "")
        need = ' <span class="need">required</span>' if name in needed and title == "Body" else ""
        rows.append(
            f'<dt><code>{escape(name)}</code> <span class="type">{escape(_kind(field))}</span>'
            f"{need}</dt>" + (f"<dd>{escape(note)}</dd>" if note else "")
        )
    return f"<details><summary>{title}</summary><dl>{''.join(rows)}</dl></details>"


def _kind(schema: dict[str, Any]) -> str:
    """A schema in a few words."""
    if "$ref" in schema:
        return str(schema["$ref"].rsplit("/", 1)[-1])
    if "anyOf" in schema:
        kinds = [_kind(option) for option in schema["anyOf"]]
        shown = [kind for kind in kinds if kind != "null"]
        return " or ".join(shown) if shown else "null"
    if "enum" in schema:
        return " or ".join(str(value) for value in schema["enum"])
    if schema.get("type") == "array":
        return f"list of {_kind(schema.get('items') or {})}"
    return (
        "only null: not supported"
        if schema.get("type") == "null"
        else str(schema.get("type", "any"))
    )


def _anchor(path: str, method: str) -> str:
    return escape(f"{method}{path}".replace("/", "-").replace("{", "").replace("}", ""))
