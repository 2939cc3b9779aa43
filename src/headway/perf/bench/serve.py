"""Load on a server: wait until it is ready, try it, warm it up, run a workload against it.

The requests of trial and warm-up have the lengths of the workload's first requests and prompts of
their own, so that nothing of the measurement is in a cache beforehand. What the server lists as its
models gives the name of the model, and whether it returns the ids of generated tokens.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal

import msgspec

from headway.errors import HeadwayError, InvalidRequest, Unavailable
from headway.perf.bench.http_client import (
    COMPLETIONS,
    REQUEST_TIMEOUT,
    HttpLoadClient,
    RequestBuilder,
)
from headway.perf.bench.http_connection import Address, ConnectionBroken, HttpConnections
from headway.perf.bench.run_load import LoadClient, LoadResult, Progress, run_load
from headway.perf.workload.synthetic import warm_up
from headway.perf.workload.workload import Workload, WorkloadRequest, vocabulary_tokens

logger = logging.getLogger(__name__)

MODELS = "/v1/models"
PAUSE = 0.5
"""Seconds between two tries while a server is not ready."""
MAX_BODY = 2**22
"""Bytes of a list of models that are read."""
RETURNS_TOKEN_IDS = ("headway", "vllm")
"""Servers that give the ids of generated tokens on request."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServedModel:
    """A server that is ready."""

    model: str
    owner: str = ""
    """The `owned_by` that the server lists, such as "vllm"; empty without one."""

    @property
    def returns_token_ids(self) -> bool:
        return self.owner in RETURNS_TOKEN_IDS


class _Model(msgspec.Struct):
    id: str
    owned_by: str | None = None


class _Models(msgspec.Struct):
    data: list[_Model]


class _Body:
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


async def find_model(
    address: Address, *, model: str | None, headers: Mapping[str, str], patience: float
) -> ServedModel:
    """Wait until a server lists its models; take the given one, else the first.

    A server without such a list will do where a model is given. Warns once if it has to wait.
    Raises `Unavailable` where no server answers for `patience` seconds, `InvalidRequest` where the
    server wants a key.
    """
    connections = HttpConnections(address, headers=headers, timeout=max(patience, 10.0))
    deadline, warned = time.monotonic() + patience, False
    try:
        while True:
            body = _Body()
            try:
                await connections.get(MODELS, body)
                why = f"it answers {MODELS} with status {body.status}"
            except ConnectionBroken as broken:
                why, body.status = str(broken), 0
            if body.status in (401, 403):
                raise InvalidRequest(f"{address.url} wants a key: --api-key", field="--api-key")
            if body.status == 200:
                return _choose_model(body.content, model, address)
            if body.status in (400, 404, 405, 501):
                return _named_model(model, why)
            if time.monotonic() >= deadline:
                raise Unavailable(f"no server is ready at {address.url}: {why}")
            if not warned:
                logger.warning("waiting up to %g s for %s: %s", patience, address.url, why)
                warned = True
            await asyncio.sleep(PAUSE)
    finally:
        connections.close()


def _choose_model(content: bytes, model: str | None, address: Address) -> ServedModel:
    try:
        listed = msgspec.json.decode(content, type=_Models).data
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        return _named_model(model, f"{address.url}{MODELS} is no list of models: {error}")
    if not listed:
        return _named_model(model, f"{address.url} lists no model")
    chosen = next((each for each in listed if each.id == model), None)
    if chosen is None and model is not None:
        # Some servers answer to names that they do not list.
        return ServedModel(model=model, owner=listed[0].owned_by or "")
    chosen = chosen or listed[0]
    return ServedModel(model=chosen.id, owner=chosen.owned_by or "")


def _named_model(model: str | None, why: str) -> ServedModel:
    if model is None:
        raise HeadwayError(f"{why}: name the model with --model", field="--model")
    return ServedModel(model=model)


@dataclass(frozen=True, slots=True, kw_only=True)
class ServeLoad:
    """A workload, the server that it is for, and how to send it."""

    workload: Workload
    address: Address
    model: str | None = None
    """None: the first that the server lists."""
    endpoint: str = COMPLETIONS
    prompts: Literal["tokens", "text"] = "tokens"
    headers: Mapping[str, str] = field(default_factory=dict)
    extra: Mapping[str, Any] = field(default_factory=dict)
    """Fields of every request, put over our own."""
    max_concurrency: int | None = None
    warmups: int = 0
    ready_timeout: float = 60.0
    """Seconds that the server has to become ready; 0: it is ready, and gets no trial request."""
    request_timeout: float = REQUEST_TIMEOUT
    max_token: int = 30_000
    """Prompts are made of token ids below this."""
    progress: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class ServeResult:
    """The result of a workload on a server."""

    model: str
    load_result: LoadResult
    other_lengths: int
    """Complete answers that were not as long as asked."""


async def load_server(load: ServeLoad) -> ServeResult:
    """Run the workload; raises `HeadwayError` where the server cannot be loaded at all."""
    served = await find_model(
        load.address, model=load.model, headers=load.headers, patience=load.ready_timeout
    )
    builder = RequestBuilder(
        model=served.model,
        endpoint=load.endpoint,
        prompts=load.prompts,
        token_ids=served.returns_token_ids,
        extra=load.extra,
    )
    client = HttpLoadClient(
        load.address, builder, headers=load.headers, timeout=load.request_timeout
    )
    tokens = partial(vocabulary_tokens, high=load.max_token)
    requests = load.workload.requests
    try:
        if load.ready_timeout > 0 and requests:
            await _try_once(client, warm_up(load.workload, 1).requests[0], load)
        if load.warmups:
            await run_load(
                client,
                warm_up(load.workload, load.warmups),
                max_concurrency=load.max_concurrency,
                tokens=tokens,
            )
        with Progress(
            len(requests), tokens=lambda: client.tokens_received, show=load.progress
        ) as progress:
            load_result = await run_load(
                client,
                load.workload,
                max_concurrency=load.max_concurrency,
                observer=progress,
                tokens=tokens,
            )
    finally:
        client.close()
    return ServeResult(
        model=served.model,
        load_result=load_result,
        other_lengths=_other_lengths(requests, load_result),
    )


async def _try_once(client: LoadClient, request: WorkloadRequest, load: ServeLoad) -> None:
    """Send one request; a server that refuses it is tried again until its time is over."""
    deadline = time.monotonic() + load.ready_timeout
    tokens = vocabulary_tokens(request, high=load.max_token)
    while (response := await client.send(request, tokens, request_id="trial")).outcome != "ok":
        if response.outcome == "error" or time.monotonic() >= deadline:
            raise HeadwayError(
                f"{load.address.url} does not serve a first request: {response.error}"
            )
        await asyncio.sleep(PAUSE)
    came = sum(response.counts) if response.output_tokens is None else response.output_tokens
    if came != request.output:
        logger.warning(
            "a first answer had %d tokens, though %d were asked; --extra-body may tell this server "
            "how to give answers of a length",
            came,
            request.output,
        )


def _other_lengths(requests: Sequence[WorkloadRequest], load_result: LoadResult) -> int:
    return sum(
        record.outcome == "ok" and record.output_tokens != request.output
        for request, record in zip(requests, load_result.records, strict=True)
    )
