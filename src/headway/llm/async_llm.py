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
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from functools import partial
from random import Random
from typing import Any
from weakref import WeakValueDictionary

from headway.background import watched
from headway.checkpoint import ModelConfig, Prepared
from headway.client import EngineHandle
from headway.client.response_cache import CachingEngine, caching_engine, remote_answers
from headway.config import EngineConfig
from headway.errors import InvalidRequest
from headway.llm.beams import BeamStream
from headway.llm.default_sampling import choose_default_sampling
from headway.llm.draft_model import with_draft
from headway.llm.grammars import GrammarChecker
from headway.llm.message_form import MessageForm
from headway.llm.model_check import check_served
from headway.llm.opening import OpenedModel, fingerprint_of_model, open_model, start_sound
from headway.llm.outputs import OutputCollector, RequestOutput
from headway.llm.prompt import Prompt, PromptEncoder, TokensPrompt
from headway.llm.rendering import ChatRenderer
from headway.llm.replicas import check_replicas
from headway.llm.resolve import GenerationRequest, Resolver, Terms
from headway.llm.served_model import fingerprint
from headway.llm.stream import CopiedStream, DeltaStream, RequestStream
from headway.llm.weight_format import ready_model
from headway.message import Tool
from headway.text import Tokenizer
from headway.types import NOBODY, SERVICE_CLASSES, Owner, SamplingParams, ServiceClass
from headway.types.fleet import ONE_ENGINE, FleetConfig
from headway.types.objectives import Objective, checked_objectives
from headway.types.response_cache import ResponseCacheConfig
from headway.types.sampling_defaults import DefaultSampling, SamplingDefaults, parse_defaults
from headway.wire import PreparedDraft


class AsyncLLM:
    """A model ready to generate. Obtain one with `start`, and `close` it (or use `async with`)."""

    def __init__(
        self,
        client: EngineHandle,
        *,
        model_config: ModelConfig,
        tokenizer: Tokenizer,
        chat_template: ChatRenderer | None,
        seed: int | None = None,
        objectives: Mapping[ServiceClass, tuple[Objective, ...]] | None = None,
        default_sampling: DefaultSampling | None = None,
    ) -> None:
        self.client = client
        """The engine, with a response cache over it if there is one."""
        self._engine = client
        self.model_config = model_config
        self.tokenizer = tokenizer
        self.chat_template = chat_template
        """Renders messages as a prompt; None for a model that has none."""
        self.objectives: dict[ServiceClass, tuple[Objective, ...]] = {
            each: (objectives or {}).get(each, ()) for each in SERVICE_CLASSES
        }
        """Of requests that bring none, by class. Who was given it sees it change."""
        self.default_sampling = default_sampling or DefaultSampling()
        """For callers who leave sampling open; `resolve` takes parameters as they are."""
        self.fingerprint: str | None = None
        """See `headway.llm.served_model.fingerprint`."""
        self.max_model_len = client.info.scheduler.limits.max_model_len
        self._encoder = PromptEncoder(tokenizer, max_model_len=self.max_model_len)
        self._grammars = GrammarChecker(tokenizer)
        self._resolver = Resolver(
            tokenizer,
            vocab_size=model_config.vocab_size,
            max_model_len=self.max_model_len,
            objectives=self.objectives,
        )
        self._random = Random(os.urandom(16) if seed is None else seed)  # noqa: S311
        self._prefix = os.urandom(4).hex()
        self._count = itertools.count(1)
        self._streams: WeakValueDictionary[str, DeltaStream] = WeakValueDictionary()
        self._check: asyncio.Task[None] | None = None

    @classmethod
    async def start(  # noqa: PLR0913 (what a server has flags for)
        cls,
        config: EngineConfig,
        *,
        command: Sequence[str] | None = None,
        progress: bool = True,
        chat_template: str | None = None,
        generation_config: str = "auto",
        override_generation_config: Mapping[str, Any] | str = "{}",
        tool_call_parser: str | None = None,
        reasoning_parser: str | None = None,
        response_cache: ResponseCacheConfig | None = None,
        fleet: FleetConfig = ONE_ENGINE,
    ) -> AsyncLLM:
        """Prepare the model where that was not done before, and start its engine, or several.

        `command` replaces the engine program (tests do that), `progress` shows progress bars,
        `chat_template` is a template in place of the model's; `generation_config` is "auto" for
        the model's own defaults of sampling, "vllm" for none or another file's path, and
        `override_generation_config` has some of them, as JSON or data;
        `tool_call_parser` and `reasoning_parser` are how the model writes; see `MessageForm`.
        `response_cache` says how many answers are kept, without it none; `fleet` how many engines
        run side by side, and what routes requests to them.
        Raises `HeadwayError` where the model or the engine cannot be had.
        """
        check_replicas(config, fleet)
        form_of = partial(
            MessageForm.choose, tool_call_parser=tool_call_parser, reasoning_parser=reasoning_parser
        )
        form_of(None)  # so that nothing is downloaded for a name that there is not
        override = parse_defaults(override_generation_config, field="override_generation_config")
        chosen = partial(
            choose_default_sampling, generation_config=generation_config, override=override
        )
        chosen(SamplingDefaults())  # so that nothing is downloaded for a file that cannot be used
        remote = remote_answers(response_cache)
        opening = partial(
            open_model, command=command, chat_template=chat_template, form_of=form_of, fleet=fleet
        )
        ready = partial(with_draft, ready_model, config, progress=progress)
        llm, settled, prepared = await start_sound(ready, partial(cls._start, opening))
        llm.default_sampling = chosen(prepared.text.sampling)
        llm.fingerprint = fingerprint(prepared, llm.client.info.hardware)
        if response_cache is not None and response_cache.response_cache:
            model = fingerprint_of_model(settled, prepared, llm.client.info.hardware)
            llm.client = caching_engine(llm.client, response_cache, model, remote)
        llm.check_model(prepared, partial(ready_model, config, progress=False, verify=True))
        return llm

    @classmethod
    async def _start(
        cls,
        opening: Callable[..., Awaitable[OpenedModel]],
        config: EngineConfig,
        prepared: Prepared,
        draft: PreparedDraft | None,
    ) -> AsyncLLM:
        opened = await opening(config, prepared, draft)
        return cls(
            opened.client,
            model_config=prepared.config,
            tokenizer=opened.tokenizer,
            chat_template=opened.chat_template,
            seed=config.seed,
            objectives={each: config.objectives_of(each) for each in SERVICE_CLASSES},
        )

    @property
    def message_form(self) -> MessageForm:
        """How the model writes what is not plain text."""
        if self.chat_template is None:
            return MessageForm.choose(None)
        return self.chat_template.form

    def check_model(self, prepared: Prepared, mend: Callable[..., object]) -> None:
        """Have the model's files read in the background; see `headway.llm.model_check`.

        `mend` prepares the model anew until `stop`, an event, is set.
        """
        if self._check is None:
            cache = self.client if isinstance(self.client, CachingEngine) else None
            work = check_served(prepared, lambda stop: mend(stop=stop), self._engine, cache)
            self._check = watched(
                work,
                name="headway-model-check",
                on_failure=lambda _: None,  # The model is served unchecked, which was logged.
            )

    async def render(
        self,
        messages: Sequence[Mapping[str, Any]],
        *,
        add_generation_prompt: bool | None = None,
        continue_final_message: bool = False,
        tools: Sequence[Tool] = (),
        variables: Mapping[str, Any] | None = None,
    ) -> str:
        """A conversation as the text of a prompt; see `ChatRenderer.render`.

        Raises `InvalidRequest` where the model has no chat template, besides. The chat template
        writes the special tokens itself, so encode the text without adding them.
        """
        if self.chat_template is None:
            raise InvalidRequest(
                "this model has no chat template: give a prompt instead (/v1/completions over "
                "HTTP), or start with --chat-template",
                field="messages",
            )
        return await self.chat_template.render(
            messages,
            add_generation_prompt=add_generation_prompt,
            continue_final_message=continue_final_message,
            tools=tools,
            variables=variables,
        )

    async def encode(
        self,
        prompt: str | Sequence[int],
        *,
        add_special_tokens: bool = True,
        truncate_to: int | None = None,
        keep_first: bool = False,
        must_fit: bool = True,
    ) -> TokensPrompt:
        """A prompt in token ids; see `headway.llm.prompt.PromptEncoder.encode`."""
        return await self._encoder.encode(
            prompt,
            add_special_tokens=add_special_tokens,
            truncate_to=truncate_to,
            keep_first=keep_first,
            must_fit=must_fit,
        )

    async def check(self, params: SamplingParams, *, tenant: str = "") -> None:
        """Raise `InvalidRequest` for parameters whose grammar cannot be compiled.

        `resolve` does not find that out, because it may take a while; see `GrammarChecker`.
        """
        await self._grammars.check(params, tenant=tenant)

    def check_now(self, params: SamplingParams) -> None:
        """The same on the spot."""
        self._grammars.check_now(params)

    def resolve(
        self,
        *prompts: Prompt,
        params: SamplingParams,
        request_id: str | None = None,
        priority: int = 0,
        cache_salt: str = "",
        owner: Owner = NOBODY,
        objectives: str | Iterable[Objective] = (),
        service_class: ServiceClass = "standard",
        prediction: Sequence[int] = (),
    ) -> GenerationRequest:
        """What `run` takes: these prompts, each continued `params.n` times, in one request.

        Owners share the engine's slots fairly. `objectives` say how soon and how steadily tokens
        are wanted, as text (`ttft=1s,tpot=50ms`) or data; where they say nothing of a metric, the
        settings' objectives for the class hold. `prediction` are tokens to draft answers from.
        Raises `InvalidRequest`, naming the field, for what cannot be served.
        """
        return self._resolver.resolve(
            prompts,
            params,
            request_id=request_id or f"req-{self._prefix}-{next(self._count)}",
            arrival=time.monotonic(),
            seeds=[self._random.getrandbits(63) for _ in prompts],
            terms=Terms(
                priority=priority,
                cache_salt=cache_salt,
                owner=owner,
                objectives=checked_objectives(objectives),
                service_class=service_class,
                prediction=tuple(prediction),
            ),
            reasoning=self.message_form.reasoning,
        )

    def run(self, request: GenerationRequest, *, anew: bool = False) -> DeltaStream:
        """Start a resolved request and return its deltas.

        `anew`: compute it in any case, and keep nothing of it, whatever response cache there is.
        Raises `Unavailable` where the engine has failed for good or is closed.
        """
        stream: DeltaStream
        if request.params.use_beam_search:
            stream = BeamStream(request, self._engine, self.tokenizer)
        else:
            client = self._engine if anew or not request.repeatable else self.client
            events = client.submit(*request.distinct)
            stream = RequestStream(request, events, self.tokenizer)
            if len(request.distinct) < len(request.requests):
                stream = CopiedStream(stream)
        self._streams[request.id] = stream
        return stream

    def stream(
        self,
        prompt: Prompt,
        params: SamplingParams,
        *,
        request_id: str | None = None,
        priority: int = 0,
        cache_salt: str = "",
        objectives: str | Iterable[Objective] = (),
        service_class: ServiceClass = "standard",
    ) -> DeltaStream:
        """Start a request now and return its deltas; errors in the request raise here at once.

        Text gets the model's special tokens (such as a beginning of sequence); token ids are taken
        as they are. Text is encoded on the spot: where it may be long and others wait, `encode` it
        first, and likewise `check` parameters. Raises what these two and `run` raise.
        """
        self.check_now(params)
        return self.run(
            self.resolve(
                prompt,
                params=params,
                request_id=request_id,
                priority=priority,
                cache_salt=cache_salt,
                objectives=objectives,
                service_class=service_class,
            )
        )

    async def generate(
        self,
        prompt: str | Sequence[int],
        params: SamplingParams,
        request_id: str | None = None,
        *,
        priority: int = 0,
        objectives: str | Iterable[Objective] = (),
        service_class: ServiceClass = "standard",
    ) -> AsyncIterator[RequestOutput]:
        """Everything generated so far, again and again until `finished`; see `resolve`.

        Raises `Overloaded` where the engine sheds the request: refuses it before it runs. An
        iterator that is left early aborts its request once it is closed or collected.
        """
        await self.check(params)
        encoded = await self.encode(prompt)
        request = self.resolve(
            encoded,
            params=params,
            request_id=request_id,
            priority=priority,
            objectives=objectives,
            service_class=service_class,
        )
        stream = self.run(request)
        collector = OutputCollector(request, self.tokenizer)
        try:
            async for delta in stream:
                collector.add(delta)
                yield collector.output()
        finally:
            stream.cancel()

    async def abort(self, request_id: str) -> None:
        """End a request with finish reason "abort"; unknown ids are ignored."""
        stream = self._streams.get(request_id)
        if stream is not None:
            if isinstance(stream, BeamStream):
                stream.abort()
            for request in stream.request.requests:
                self.client.abort(request.id)

    async def close(self) -> None:
        """Stop the engine; whatever still runs ends with finish reason "abort"."""
        if self._check is not None:
            self._check.cancel()
            await asyncio.gather(self._check, return_exceptions=True)
        self._encoder.close()
        await self._grammars.close()
        try:
            if self.chat_template is not None:
                await self.chat_template.close()
        finally:
            await self.client.close()

    async def __aenter__(self) -> AsyncLLM:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()
