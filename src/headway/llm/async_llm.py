"""`AsyncLLM`: text in, text out, over one supervised engine process.

Everything here runs on the caller's event loop and only coordinates: texts are resolved to tokens,
requests go to the engine client, token events come back as text. No tensor is touched in this
process. The server and `LLM` are both built on it.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from pathlib import Path
from random import Random

from headway import machine
from headway.checkpoint import ModelConfig, Prepared, prepare
from headway.client import EngineClient
from headway.config import EngineConfig
from headway.llm.collect import Collector
from headway.llm.outputs import RequestOutput
from headway.llm.resolve import Resolver, Ticket
from headway.llm.stream import RequestStream, ResolvedRequest
from headway.text import ChatTemplate, Tokenizer
from headway.types import SamplingParams


class AsyncLLM:
    """A model ready to generate. Obtain one with `start`, and `close` it (or use `async with`)."""

    def __init__(
        self,
        client: EngineClient,
        *,
        prepared: Prepared,
        tokenizer: Tokenizer,
        chat_template: ChatTemplate | None,
        seed: int | None,
    ) -> None:
        self.client = client
        self.model_config: ModelConfig = prepared.config
        self.tokenizer = tokenizer
        self.chat_template = chat_template
        self.max_model_len = client.info.limits.max_model_len
        self._resolver = Resolver(tokenizer, max_model_len=self.max_model_len)
        self._random = Random(os.urandom(16) if seed is None else seed)  # noqa: S311
        self._streams: dict[str, RequestStream] = {}

    @classmethod
    async def start(
        cls,
        config: EngineConfig,
        *,
        command: Sequence[str] | None = None,
        progress: bool = True,
    ) -> AsyncLLM:
        """Prepare the model where that was not done before, and start its engine.

        `command` replaces the engine program (tests do that), `progress` shows progress bars.
        Raises `HeadwayError` where the model or the engine cannot be had.
        """
        raise NotImplementedError

    def resolve(
        self,
        prompt: str | Sequence[int],
        params: SamplingParams,
        *,
        request_id: str | None = None,
        priority: int = 0,
        cache_salt: str = "",
    ) -> ResolvedRequest:
        """What `stream` would run, without running it; raises `InvalidRequest` as it would."""
        raise NotImplementedError

    def stream(
        self,
        prompt: str | Sequence[int],
        params: SamplingParams,
        *,
        request_id: str | None = None,
        priority: int = 0,
        cache_salt: str = "",
    ) -> RequestStream:
        """Start a request now and return its deltas; errors in the request raise here at once.

        Text gets the model's special tokens (such as a beginning of sequence); token ids are taken
        as they are. Raises `InvalidRequest`, `RequestTooLarge`, or `Unavailable` where the engine
        has failed for good or is closed.
        """
        raise NotImplementedError

    async def generate(
        self,
        prompt: str | Sequence[int],
        params: SamplingParams,
        request_id: str | None = None,
        *,
        priority: int = 0,
    ) -> AsyncIterator[RequestOutput]:
        """Everything generated so far, again and again until `finished`."""
        raise NotImplementedError
        yield

    async def encode(self, text: str, *, add_special_tokens: bool = True) -> list[int]:
        """Token ids of a text; long texts are encoded off the event loop."""
        raise NotImplementedError

    def abort(self, request_id: str) -> None:
        """End a request with finish reason "abort"; unknown ids are ignored."""
        raise NotImplementedError

    async def close(self) -> None:
        """Stop the engine; whatever still runs ends with finish reason "abort"."""
        raise NotImplementedError

    async def __aenter__(self) -> AsyncLLM:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()
