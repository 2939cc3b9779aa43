"""NVIDIA Dynamo's selection service as a router of `routers.py`: `pip install ai-dynamo-runtime`.

The service is the one of its wheel, in this process, with its defaults, and reckons what engines
have cached from what it sent them: here are no engines whose events it could read. It is told of
first tokens and of ends when our routers are: whenever it is asked.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator, Sequence
from hashlib import blake2b
from importlib import import_module
from typing import Any

from headway.routing import EngineView, RequestShape

BLOCK = 64
"""Tokens that have a name to the service."""
SETTINGS = {
    "DYN_ROUTER_USE_KV_EVENTS": "false",
    "DYN_ROUTER_APPROXIMATE_CACHE_POLICY": "lru",
    "DYN_LOG": "error",
}


class DynamoSelection:
    """Workers are registered with the first request; needs the same engines each time."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._service: Any = None
        self._sent: dict[str, tuple[int, bool]] = {}
        """Of each request that has not ended: its engine, and whether its first token came."""

    def __del__(self) -> None:
        self._loop.close()

    def choose(self, request: RequestShape, engines: Sequence[EngineView]) -> int:
        return self._loop.run_until_complete(self._choose(request, engines))

    async def _choose(self, request: RequestShape, engines: Sequence[EngineView]) -> int:
        if self._service is None:
            self._service = await _service(engines)
        await self._tell(engines)
        names = list(_block_names(request))
        asked = {
            "selection_id": request.id,
            "block_hashes": names,
            "sequence_hashes": names,
            "isl_tokens": request.prompt_tokens,
        }
        chosen = int((await self._service.select_and_reserve(asked))["worker_id"])
        self._sent[request.id] = chosen, False
        return chosen

    async def _tell(self, engines: Sequence[EngineView]) -> None:
        for name, (index, told) in list(self._sent.items()):
            decodes = engines[index].decoding(name)
            if decodes is None:
                await self._service.free_reservation(name)
                del self._sent[name]
            elif decodes and not told:
                await self._service.prefill_complete(name)
                self._sent[name] = index, True


async def _service(engines: Sequence[EngineView]) -> Any:
    os.environ.update(SETTINGS)
    service = import_module("dynamo._core").SelectionService(indexer_threads=1)
    for index, view in enumerate(engines):
        worker = {
            "worker_id": index,
            "endpoint": f"http://127.0.0.1:{9000 + index}",  # named, never called
            "block_size": BLOCK,
            "total_kv_blocks": view.room // BLOCK,
            "max_num_batched_tokens": view.most_tokens,
        }
        await service.upsert_worker(worker)
    return service


def _block_names(request: RequestShape) -> Iterator[int]:
    """A number for each whole block of the prompt, equal where all up to its end is."""
    prefixes, place = request.prefixes, 0
    for number in range(request.prompt_tokens // BLOCK):
        while place < len(prefixes) and prefixes[place].tokens < (number + 1) * BLOCK:
            place += 1
        within = prefixes[place].name if place < len(prefixes) else request.id.encode()
        digest = blake2b(b"%d " % number + within, digest_size=8).digest()
        yield int.from_bytes(digest, "little") >> 1  # it takes 63 bits
