"""The paths of OpenAI's Responses API."""

from __future__ import annotations

from headway.server.openapi import Endpoint
from headway.server.responses.handlers import (
    DeletedResponse,
    cancel_response,
    create_response,
    delete_response,
    get_response,
    list_input_items,
)
from headway.server.responses.items import ItemList, ItemsQuery
from headway.server.responses.objects import ResponseObject
from headway.server.responses.schema import ResponsesBody

RESPONSES_ENDPOINTS = (
    Endpoint(
        method="POST",
        path="/v1/responses",
        sender=create_response,
        summary="Answer a text or items, whole, as a stream of events, or in the background.",
        takes=ResponsesBody,
        gives=ResponseObject,
    ),
    Endpoint(
        method="GET",
        path="/v1/responses/{response_id}",
        handler=get_response,
        summary="A response that is kept, or as far as it is in the background.",
        gives=ResponseObject,
    ),
    Endpoint(
        method="DELETE",
        path="/v1/responses/{response_id}",
        handler=delete_response,
        summary="Forget a response; one in the background is stopped.",
        gives=DeletedResponse,
    ),
    Endpoint(
        method="POST",
        path="/v1/responses/{response_id}/cancel",
        handler=cancel_response,
        summary="Stop a response in the background.",
        gives=ResponseObject,
    ),
    Endpoint(
        method="GET",
        path="/v1/responses/{response_id}/input_items",
        handler=list_input_items,
        summary="The input of a kept response, without that of those before it.",
        gives=ItemList,
        query=ItemsQuery,
    ),
)
