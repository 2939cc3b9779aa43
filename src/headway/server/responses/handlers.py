"""`/v1/responses`: create, retrieve, delete and cancel a response, and list its input."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Callable

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Message, Send

from headway.errors import InvalidRequest, RequestTooLarge
from headway.server.admission import ServerState
from headway.server.body import convert, json_response, lets_pass, pass_over, read_body
from headway.server.callers import tenant_of
from headway.server.errors import plain_error
from headway.server.offload import MANY, off_loop
from headway.server.openai.conversation import Conversation, answer_conversation
from headway.server.responses.formatter import Keep, ResponsesFormatter
from headway.server.responses.items import (
    ItemsQuery,
    is_reference,
    items_before,
    items_meant,
    kept_items,
    listed,
    was_in_background,
)
from headway.server.responses.kept import KeptResponses
from headway.server.responses.schema import ResponseInputItem, ResponsesBody
from headway.server.responses.store import ResponseMissing, StoredResponse
from headway.server.responses.translate import TranslatedResponse, translate, unknown_in_tools

LARGE = 256 * 1024
"""Bytes of kept responses from which they are read off the event loop."""


class DeletedResponse(msgspec.Struct, frozen=True, kw_only=True):
    id: str
    object: str = "response"
    deleted: bool = True


async def create_response(request: Request, send: Send) -> None:
    """Answer a text or items, whole, as a stream of events, or in the background."""
    state: ServerState = request.app.state.server
    kept = _kept(request)
    body = await read_body(request, ResponsesBody, max_bytes=state.config.max_body_bytes)
    if lets_pass(request):
        pass_over(request, unknown_in_tools(body.tools))
    keeps = body.store is not False and kept.store.most_entries > 0
    _check_background(body, keeps=keeps)
    body = await _meant(request, body)
    before = await _before(request, body.previous_response_id)
    translated = await off_loop(_count(body) + len(before) > MANY, translate, body, before)
    response_id = f"resp_{uuid.uuid4().hex}"
    keep = await _keeper(request, body, response_id) if keeps else _forget

    def formatter(conversation: Conversation) -> ResponsesFormatter:
        return ResponsesFormatter(conversation, body, keep, kept=keeps)

    if body.background:
        await _in_background(request, send, translated, response_id, formatter)
        return
    await answer_conversation(
        request, send, translated.chat, response_id, formatter, names=translated.names
    )


async def get_response(request: Request) -> Response:
    """A response that is kept, or as far as it is in the background."""
    if request.query_params.get("stream", "false") not in ("false", "0"):
        raise InvalidRequest(
            "stream: the events of a response are not kept; ask without", field="stream"
        )
    response_id = request.path_params["response_id"]
    try:
        return _json(_kept(request).get(tenant_of(request.scope), response_id))
    except ResponseMissing:
        return _missing(response_id)


async def delete_response(request: Request) -> Response:
    """Forget a response; one in the background is stopped."""
    response_id = request.path_params["response_id"]
    state: ServerState = request.app.state.server
    try:
        await _kept(request).delete(state, tenant_of(request.scope), response_id)
    except ResponseMissing:
        return _missing(response_id)
    return json_response(DeletedResponse(id=response_id))


async def cancel_response(request: Request) -> Response:
    """Stop a response in the background; one that has ended stays what it is."""
    response_id, tenant = request.path_params["response_id"], tenant_of(request.scope)
    kept, state = _kept(request), request.app.state.server
    try:
        cancelled = await kept.cancel(state, tenant, response_id)
        if cancelled is not None:
            return _json(cancelled)
        response = kept.get(tenant, response_id)
    except ResponseMissing:
        return _missing(response_id)
    if not was_in_background(response):
        raise InvalidRequest("only a response with background: true can be cancelled")
    return _json(response)


async def list_input_items(request: Request) -> Response:
    """The input of a kept response, without that of those before it."""
    response_id = request.path_params["response_id"]
    query = convert(dict(request.query_params), ItemsQuery, strict=False)
    try:
        entry = _kept(request).entry(tenant_of(request.scope), response_id)
    except ResponseMissing:
        return _missing(response_id)
    return json_response(listed(entry.input, query))


async def _in_background(
    request: Request,
    send: Send,
    translated: TranslatedResponse,
    response_id: str,
    new_formatter: Callable[[Conversation], ResponsesFormatter],
) -> None:
    """Send the response as it is at the beginning, and go on without its client."""

    async def answer(begin: Callable[[ResponsesFormatter], None]) -> None:
        def formatter(conversation: Conversation) -> ResponsesFormatter:
            made = new_formatter(conversation)
            begin(made)
            return made

        alone = Request(request.scope, _never)
        chat, names = translated.chat, translated.names
        await answer_conversation(alone, _discard, chat, response_id, formatter, names=names)

    begun = await _kept(request).start(tenant_of(request.scope), response_id, answer)
    await _json(begun)(request.scope, request.receive, send)


async def _before(request: Request, previous: str | None) -> list[ResponseInputItem]:
    """The items of the response that this one goes on from, and of all before it."""
    if previous is None:
        return []
    try:
        chain = _kept(request).store.chain(tenant_of(request.scope), previous)
    except ResponseMissing as missing:
        which = "" if missing.args[0] == previous else f" goes on from {missing.args[0]}, which"
        raise InvalidRequest(
            f"previous_response_id: {previous!r}{which} is not kept (any more); send the whole "
            "conversation as input",
            field="previous_response_id",
        ) from None
    large = sum(entry.size for entry in chain) >= LARGE
    items = await off_loop(large, items_before, chain)
    most: int = request.app.state.server.llm.max_model_len
    if len(items) > most:
        raise RequestTooLarge(
            f"previous_response_id: {len(items)} items cannot fit in the context of {most} tokens",
            field="previous_response_id",
        )
    return items


async def _meant(request: Request, body: ResponsesBody) -> ResponsesBody:
    """The body with items in the place of references to them, each of which it may name once."""
    if isinstance(body.input, str):
        return body
    store, tenant = _kept(request).store, tenant_of(request.scope)
    referred: dict[str, StoredResponse] = {}
    for place, item in enumerate(body.input):
        if item.id is not None and is_reference(item):
            field = f"input[{place}].id"
            if item.id in referred:
                raise InvalidRequest(f"{field}: this item is in the input already", field=field)
            try:
                referred[item.id] = store.with_item(tenant, item.id)
            except ResponseMissing:
                raise InvalidRequest(
                    f"{field}: no output item {item.id[:100]!r} is kept; send the item itself",
                    field=field,
                ) from None
    if not referred:
        return body
    size = sum({entry.id: len(entry.response) for entry in referred.values()}.values())
    most: int = request.app.state.server.config.max_body_bytes
    if size > most:
        raise RequestTooLarge(
            f"input refers to items of responses of {size} bytes; at most {most}", field="input"
        )
    items = await off_loop(size >= LARGE, items_meant, body.input, referred)
    return msgspec.structs.replace(body, input=items)


def _check_background(body: ResponsesBody, *, keeps: bool) -> None:
    if not body.background:
        return
    if body.stream:
        raise InvalidRequest(
            "background: events are not kept, so stream or ask for the response again, not both",
            field="background",
        )
    if not keeps:
        raise InvalidRequest(
            "background needs store: nobody could ask for the answer", field="background"
        )


async def _keeper(request: Request, body: ResponsesBody, response_id: str) -> Keep:
    store, tenant = _kept(request).store, tenant_of(request.scope)
    given = await off_loop(_count(body) > MANY, kept_items, body.input)
    items = msgspec.json.encode(given)

    def keep(response: bytes, names: tuple[str, ...]) -> None:
        entry = StoredResponse(
            id=response_id,
            previous=body.previous_response_id,
            input=items,
            response=response,
            items=names,
        )
        store.put(tenant, entry)

    return keep


def _count(body: ResponsesBody) -> int:
    """How many items and parts of them the input has."""
    if isinstance(body.input, str):
        return 1
    return sum(len(item.content) if isinstance(item.content, list) else 1 for item in body.input)


def _forget(_response: bytes, _items: tuple[str, ...]) -> None:
    pass


def _kept(request: Request) -> KeptResponses:
    kept: KeptResponses = request.app.state.responses
    return kept


def _json(response: bytes) -> Response:
    return Response(response, media_type="application/json")


def _missing(response_id: str) -> Response:
    return plain_error(404, f"no response {response_id[:100]!r} is kept here")


async def _never() -> Message:
    """Nothing comes from a client that does not wait."""
    nothing: asyncio.Future[Message] = asyncio.get_running_loop().create_future()
    return await nothing


async def _discard(_message: Message) -> None:
    pass
