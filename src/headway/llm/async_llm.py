"""`AsyncLLM`: text in, text out, over one supervised engine process.

Everything here runs on the caller's event loop and only coordinates: texts are resolved to tokens,
requests go to the engine client, token events come back as text. No tensor is touched in this
process. The server and `LLM` are both built on it.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from pathlib import Path
from random import Random
from weakref import WeakValueDictionary

from headway.checkpoint import ModelConfig, prepare_tokenizer
from headway.client import EngineClient
from headway.config import EngineConfig
from headway.llm.outputs import RequestOutput
from headway.llm.resolve import Resolver, Ticket
from headway.llm.stream import Collector, RequestStream, ResolvedRequest
from headway.llm.weight_format import ready_model
from headway.text import ChatTemplate, Tokenizer
from headway.types import SamplingParams

LONG_TEXT = 16_384
"""Characters from which a text is encoded in a thread, so that the event loop stays responsive."""


class AsyncLLM:
    """A model ready to generate. Obtain one with `start`, and `close` it (or use `async with`)."""

    def __init__(
        self,
        client: EngineClient,
        *,
        model_config: ModelConfig,
        tokenizer: Tokenizer,
        chat_template: ChatTemplate | None,
        seed: int | None = None,
    ) -> None:
        self.client = client
        self.model_config = model_config
        self.tokenizer = tokenizer
        self.chat_template = chat_template
        """How messages become a prompt; None for a model that does not chat."""
        self.max_model_len = client.info.limits.max_model_len
        self._resolver = Resolver(
            tokenizer, vocab_size=model_config.vocab_size, max_model_len=self.max_model_len
        )
        self._random = Random(os.urandom(16) if seed is None else seed)  # noqa: S311
        self._prefix = os.urandom(4).hex()
        self._count = itertools.count(1)
        self._streams: WeakValueDictionary[str, RequestStream] = WeakValueDictionary()

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
        config, prepared = await asyncio.to_thread(ready_model, config, progress=progress)
        # The engine loads weights while the tokenizer is read here.
        starting = asyncio.create_task(EngineClient.start(config, prepared.folder, command=command))
        try:
            tokenizer = await asyncio.to_thread(_load_tokenizer, config, prepared.folder)
            source = tokenizer.config.chat_template
            template = None if source is None else ChatTemplate(source, tokenizer.config)
        except BaseException:
            starting.cancel()
            started = (await asyncio.gather(starting, return_exceptions=True))[0]
            if isinstance(started, EngineClient):
                await started.close()
            raise
        return cls(
            await starting,
            model_config=prepared.config,
            tokenizer=tokenizer,
            chat_template=template,
            seed=config.seed,
        )

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
        ticket = Ticket(
            request_id=request_id or f"req-{self._prefix}-{next(self._count)}",
            arrival=time.monotonic(),
            seed=self._random.getrandbits(63),
            priority=priority,
            cache_salt=cache_salt,
        )
        return self._resolver.resolve(prompt, params, ticket)

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
        return self.run(
            self.resolve(
                prompt, params, request_id=request_id, priority=priority, cache_salt=cache_salt
            )
        )

    def run(self, resolved: ResolvedRequest) -> RequestStream:
        """Start a resolved request."""
        stream = RequestStream(resolved, self.client.submit(*resolved.requests), self.tokenizer)
        self._streams[resolved.request_id] = stream
        return stream

    async def generate(
        self,
        prompt: str | Sequence[int],
        params: SamplingParams,
        request_id: str | None = None,
        *,
        priority: int = 0,
    ) -> AsyncIterator[RequestOutput]:
        """Everything generated so far, again and again until `finished`.

        An iterator that is left early aborts its request once it is closed or collected.
        """
        tokens = await self.encode(prompt) if isinstance(prompt, str) else prompt
        resolved = self.resolve(tokens, params, request_id=request_id, priority=priority)
        if isinstance(prompt, str):
            resolved = replace(resolved, prompt=prompt)
        stream = self.run(resolved)
        collector = Collector(resolved, self.tokenizer)
        try:
            async for delta in stream:
                collector.add(delta)
                yield collector.output()
        finally:
            stream.cancel()

    async def encode(self, text: str, *, add_special_tokens: bool = True) -> list[int]:
        """Token ids of a text; long texts are encoded off the event loop."""
        if len(text) < LONG_TEXT:
            return self.tokenizer.encode(text, add_special_tokens=add_special_tokens)
        return await asyncio.to_thread(
            self.tokenizer.encode, text, add_special_tokens=add_special_tokens
        )

    async def abort(self, request_id: str) -> None:
        """End a request with finish reason "abort"; unknown ids are ignored."""
        stream = self._streams.get(request_id)
        if stream is not None:
            for request in stream.resolved.requests:
                self.client.abort(request.id)

    async def close(self) -> None:
        """Stop the engine; whatever still runs ends with finish reason "abort"."""
        await self.client.close()

    async def __aenter__(self) -> AsyncLLM:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()


def _load_tokenizer(config: EngineConfig, prepared: Path) -> Tokenizer:
    """The model's own tokenizer, or the one that the settings put in its place."""
    given = config.tokenizer
    return Tokenizer.load(prepared if given is None else prepare_tokenizer(given))
