"""What a server says of itself before it is loaded: the name of its model, and whose it is."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass

import msgspec

from headway.errors import HeadwayError, InvalidRequest, Unavailable
from headway.perf.bench.http_connection import Address, ConnectionBroken, HttpConnections

logger = logging.getLogger(__name__)

MODELS = "/v1/models"
PAUSE = 0.5
"""Seconds between two tries while a server is not ready."""
MAX_BODY = 2**22
"""Bytes of a list of models that are read."""
TELLS_TOKENS = ("headway", "vllm")
"""Servers that give the ids of generated tokens on request."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServedModel:
    """A server that is ready."""

    model: str
    owner: str = ""
    """Who says to have made the model available, such as "vllm"; empty if nobody does."""

    @property
    def tells_tokens(self) -> bool:
        return self.owner in TELLS_TOKENS


class _Model(msgspec.Struct):
    id: str
    owned_by: str | None = None


class _Models(msgspec.Struct):
    data: list[_Model]


class _Whole:
    """Reads an answer into memory."""

    def __init__(self) -> None:
        self.status = 0
        self.content = b""

    def head(self, status: int) -> None:
        self.status = status

    def body(self, data: bytes, clock: float) -> None:  # noqa: ARG002
        self.content += data
        if len(self.content) > MAX_BODY:
            raise ValueError(f"more than {MAX_BODY} bytes")


async def find_out(
    address: Address, *, model: str | None, headers: Mapping[str, str], patience: float
) -> ServedModel:
    """Wait until a server lists its models; take the given one, else the first.

    A server without such a list will do where a model is given. Warns once if it has to wait.
    Raises `Unavailable` where nobody answers for `patience` seconds, `InvalidRequest` where the
    server lets nobody in without a key.
    """
    connections = HttpConnections(address, headers=headers, timeout=max(patience, 10.0))
    deadline, told = time.monotonic() + patience, False
    try:
        while True:
            whole = _Whole()
            try:
                await connections.get(MODELS, whole)
                why = f"it answers {MODELS} with status {whole.status}"
            except ConnectionBroken as broken:
                why, whole.status = str(broken), 0
            if whole.status in (401, 403):
                raise InvalidRequest(f"{address.url} wants a key: --api-key", field="--api-key")
            if whole.status == 200:
                return _choose(whole.content, model, address)
            if whole.status in (400, 404, 405, 501):
                return _named(model, why)
            if time.monotonic() >= deadline:
                raise Unavailable(f"no server is ready at {address.url}: {why}")
            if not told:
                logger.warning("waiting up to %g s for %s: %s", patience, address.url, why)
                told = True
            await asyncio.sleep(PAUSE)
    finally:
        connections.close()


def _choose(content: bytes, model: str | None, address: Address) -> ServedModel:
    try:
        listed = msgspec.json.decode(content, type=_Models).data
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        return _named(model, f"{address.url}{MODELS} is no list of models: {error}")
    if not listed:
        return _named(model, f"{address.url} lists no model")
    chosen = next((each for each in listed if each.id == model), None)
    if chosen is None and model is not None:
        # Some servers answer to names that they do not list.
        return ServedModel(model=model, owner=listed[0].owned_by or "")
    chosen = chosen or listed[0]
    return ServedModel(model=chosen.id, owner=chosen.owned_by or "")


def _named(model: str | None, why: str) -> ServedModel:
    if model is None:
        raise HeadwayError(f"{why}: name the model with --model", field="--model")
    return ServedModel(model=model)
