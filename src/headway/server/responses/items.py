"""Kept responses and their input items, as they are written, listed, and read again."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from headway.errors import InvalidRequest
from headway.server.responses.schema import Parts, ResponseInputItem
from headway.server.responses.store import StoredResponse

_PREFIXES = {
    "message": "msg",
    "function_call": "fc",
    "function_call_output": "fco",
    "reasoning": "rs",
}


class ItemsQuery(msgspec.Struct, frozen=True, kw_only=True):
    """Which of the items are listed."""

    limit: Annotated[int, Meta(ge=1, le=100)] = 20
    order: Literal["asc", "desc"] = "desc"
    after: str | None = None
    """The item before the first one."""


class ItemList(msgspec.Struct, frozen=True, kw_only=True):
    object: str = "list"
    data: list[dict[str, Any]]
    first_id: str | None
    last_id: str | None
    has_more: bool


class _Answered(msgspec.Struct, frozen=True):
    """What is read of a kept response."""

    status: str
    background: bool
    output: list[ResponseInputItem]


def kept_items(given: str | Sequence[ResponseInputItem]) -> list[dict[str, Any]]:
    """Items with all fields that OpenAI's types have, and with ids."""
    if isinstance(given, str):
        given = [ResponseInputItem(role="user", content=given)]
    return [_kept(item) for item in given]


def items_before(chain: Iterable[StoredResponse]) -> list[ResponseInputItem]:
    """Input and output of responses, one after the other, the earliest first.

    Raises `InvalidRequest` where the last one did not end in an answer.
    """
    items: list[ResponseInputItem] = []
    for entry in chain:
        answered = msgspec.json.decode(entry.response, type=_Answered)
        items += msgspec.json.decode(entry.input, type=list[ResponseInputItem])
        items += answered.output
        if answered.status not in ("completed", "incomplete"):
            raise InvalidRequest(
                f"previous_response_id: that response is {answered.status}; go on from one that "
                "has an answer",
                field="previous_response_id",
            )
    return items


def items_meant(
    items: Sequence[ResponseInputItem], referred: Mapping[str, StoredResponse]
) -> list[ResponseInputItem]:
    """The items, with what references mean in their place: items of these responses, by id."""
    outputs = {entry.id: entry for entry in referred.values()}
    known: dict[str, ResponseInputItem] = {}
    for entry in outputs.values():
        answered = msgspec.json.decode(entry.response, type=_Answered)
        known |= {item.id: item for item in answered.output if item.id is not None}
    return [known[item.id] if is_reference(item) and item.id else item for item in items]


def is_reference(item: ResponseInputItem) -> bool:
    """Whether it is an item of an earlier response, named instead of sent."""
    bare = item.type == "message" and item.role is None and item.content is None
    return item.type == "item_reference" or (bare and item.id is not None)


def listed(items: bytes, query: ItemsQuery) -> ItemList:
    """Those of the kept items that are asked for.

    Raises `InvalidRequest` where `after` is none of them.
    """
    found: list[dict[str, Any]] = msgspec.json.decode(items)
    if query.order == "desc":
        found.reverse()
    if query.after is not None:
        places = [place for place, item in enumerate(found) if item["id"] == query.after]
        if not places:
            raise InvalidRequest("after: no input item has this id", field="after")
        found = found[places[0] + 1 :]
    shown = found[: query.limit]
    return ItemList(
        data=shown,
        first_id=shown[0]["id"] if shown else None,
        last_id=shown[-1]["id"] if shown else None,
        has_more=len(found) > len(shown),
    )


def was_in_background(response: bytes) -> bool:
    """Whether a kept response was generated in the background."""
    return msgspec.json.decode(response, type=_Answered).background


def _kept(item: ResponseInputItem) -> dict[str, Any]:
    plain: dict[str, Any] = msgspec.to_builtins(item)
    plain["type"] = item.type
    plain.setdefault("id", f"{_PREFIXES.get(item.type, 'item')}_{uuid.uuid4().hex}")
    plain["status"] = "completed"
    if item.type == "message" and item.content is not None:
        plain["content"] = _parts(item.content, item.role)
    if item.type == "reasoning":
        plain.setdefault("summary", [])
    return plain


def _parts(content: Parts, role: str | None) -> list[dict[str, Any]]:
    """Content as a list of parts; the texts of an assistant are outputs, all others inputs."""
    if isinstance(content, str):
        parts: list[dict[str, Any]] = [{"text": content}]
    else:
        parts = [msgspec.to_builtins(part) for part in content]
    own: dict[str, Any] = {"type": "input_text"}
    if role == "assistant":
        own = {"type": "output_text", "annotations": []}
    return [part if "refusal" in part else part | own for part in parts]
