"""`LLM`: batches of prompts from a script, with plain calls.

An `AsyncLLM` on an event loop in a background thread does the work; the engine forms the batches.
Ctrl-C aborts what runs and leaves the `LLM` usable; its engine process ends with `close`, with the
`with` block, or with the program.
"""

from __future__ import annotations

import asyncio
import threading
import weakref
from collections.abc import Coroutine, Iterable, Mapping, Sequence
from concurrent.futures import CancelledError, Future
from contextlib import suppress
from dataclasses import fields
from typing import Any, TypeVar, cast

from tqdm import tqdm

from headway.config import DEFAULT_MODEL, EngineConfig
from headway.errors import HeadwayError, InvalidRequest
from headway.llm.async_llm import AsyncLLM
from headway.llm.outputs import OutputCollector, RequestOutput
from headway.llm.prompt import Prompt, TokensPrompt
from headway.llm.resolve import GenerationRequest
from headway.llm.tool_prompts import tools_of
from headway.scheduling.policy import PARAMETERS, split_options
from headway.text import Tokenizer
from headway.types import SamplingParams, ServiceClass
from headway.types.fleet import FleetConfig, RouterName
from headway.types.objectives import Objective, checked_objectives
from headway.types.response_cache import ResponseCacheConfig

T = TypeVar("T")

PATIENCE = 10.0
"""Seconds that interrupted work gets to clean up."""


class LoopThread:
    """Runs coroutines for synchronous callers; a daemon, so it never keeps a program alive."""

    def __init__(self) -> None:
        self._runner = asyncio.Runner()
        self._loop: asyncio.AbstractEventLoop | None = None
        started = threading.Event()
        self._thread = threading.Thread(
            target=self._main, args=(started,), name="headway-loop", daemon=True
        )
        self._thread.start()
        started.wait()

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """The coroutine's result. Ctrl-C cancels it, waits for its clean-up, and is raised."""
        assert self._loop is not None, "the thread has started"
        future: Future[T] = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return future.result()
        except KeyboardInterrupt:
            self._cancel(future)
            raise

    def close(self) -> None:
        """Stop the loop and end the thread; what still runs is cancelled."""
        if self._loop is not None and self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join(PATIENCE)

    def _main(self, started: threading.Event) -> None:
        with self._runner as runner:
            self._loop = runner.get_loop()
            self._loop.call_soon(started.set)  # awaited
            self._loop.run_forever()

    def _cancel(self, future: Future[Any]) -> None:
        future.cancel()
        # The future counts as cancelled at once; its task ends a little later.
        with suppress(CancelledError, TimeoutError):
            assert self._loop is not None
            asyncio.run_coroutine_threadsafe(_settle(), self._loop).result(PATIENCE)


async def _settle() -> None:
    """Wait until the tasks that were cancelled have ended."""
    ending = [task for task in asyncio.all_tasks() if task.cancelling()]
    if ending:
        await asyncio.wait(ending, timeout=PATIENCE)


Message = dict[str, Any]


class LLM:
    """A model in memory. `settings` are the fields of `headway.config.EngineConfig`, and the
    policies' parameters as their flags name them (`dynamic_wait`)."""

    def __init__(  # noqa: PLR0913 (as `AsyncLLM.start`)
        self,
        model: str | None = None,
        *,
        command: Sequence[str] | None = None,
        progress: bool = True,
        generation_config: str = "auto",
        override_generation_config: Mapping[str, Any] | str = "{}",
        reasoning_parser: str | None = None,
        response_cache: int = 0,
        replicas: int = 1,
        router: RouterName = FleetConfig.router,
        roles: str | None = None,
        fixed_roles: bool = False,
        **settings: Any,
    ) -> None:
        """Start the engine; `command` replaces its program, `progress` shows preparation.

        `response_cache` is how many bytes of answers are kept, so that prompts that come again,
        greedy or with a seed, are not computed again; 0 for none. `replicas` is how many engines
        share the machine's cores, each with its own batch; `router` says which gets a prompt, and
        `roles` what each is for, such as "prefill,decode": see `FleetConfig`.

        `generation_config` and `override_generation_config` say how prompts are sampled that come
        without parameters, and `reasoning_parser` how the model marks its reasoning, which a
        `thinking_token_budget` needs; see `AsyncLLM.start`.
        """
        config = _config(model, settings)
        cache = ResponseCacheConfig(response_cache=response_cache)
        fleet = FleetConfig(replicas=replicas, router=router, roles=roles, fixed_roles=fixed_roles)
        loop = LoopThread()
        try:
            self._llm = loop.run(
                AsyncLLM.start(
                    config,
                    command=command,
                    progress=progress,
                    generation_config=generation_config,
                    override_generation_config=override_generation_config,
                    reasoning_parser=reasoning_parser,
                    response_cache=cache,
                    fleet=fleet,
                )
            )
        except BaseException:
            loop.close()
            raise
        self._loop = loop
        self._end = weakref.finalize(self, _shut_down, loop, self._llm)

    def generate(
        self,
        prompts: Prompt | Sequence[Prompt],
        sampling_params: SamplingParams | Sequence[SamplingParams] | None = None,
        *,
        use_tqdm: bool = True,
        objectives: str | Iterable[Objective] = (),
        service_class: ServiceClass = "standard",
    ) -> list[RequestOutput]:
        """Continue prompts (texts or token ids), all at once; results come in their order.

        One set of parameters serves all prompts, a list has one for each, and without any those of
        `get_default_sampling_params` do; `objectives`, such as
        "ttft=1s,tpot=50ms", and the class are those of each prompt (`AsyncLLM.resolve`). Raises
        `InvalidRequest` before anything runs where any of them cannot be served, and `Overloaded`
        where the engine sheds any: the others end as well. A progress bar is shown on a terminal
        unless `use_tqdm` is false.
        """
        objectives = checked_objectives(objectives)
        listed = _listed(prompts)
        chosen = _each(sampling_params, len(listed), self.get_default_sampling_params())
        for params in chosen:
            self._llm.check_now(params)
        requests = [
            self._llm.resolve(
                prompt, params=each, objectives=objectives, service_class=service_class
            )
            for prompt, each in zip(listed, chosen, strict=True)
        ]
        return self._run(requests, use_tqdm=use_tqdm)

    def chat(  # noqa: PLR0913 (as vLLM's has it)
        self,
        messages: Sequence[Message] | Sequence[Sequence[Message]],
        sampling_params: SamplingParams | Sequence[SamplingParams] | None = None,
        *,
        use_tqdm: bool = True,
        add_generation_prompt: bool = True,
        continue_final_message: bool = False,
        tools: Sequence[Mapping[str, Any]] | None = None,
        chat_template_kwargs: Mapping[str, Any] | None = None,
        objectives: str | Iterable[Objective] = (),
        service_class: ServiceClass = "standard",
    ) -> list[RequestOutput]:
        """Answer a conversation, or several at once; see `generate`.

        The model is told of `tools`, which are OpenAI's. What it writes is returned as it is: calls
        are part of the text, in the model's own form.
        """
        told = tools_of(tools or ())
        objectives = checked_objectives(objectives)
        several = cast(
            Sequence[Sequence[Message]],
            [messages] if messages and isinstance(messages[0], Mapping) else messages,
        )
        chosen = _each(sampling_params, len(several), self.get_default_sampling_params(chat=True))
        for params in chosen:
            self._llm.check_now(params)

        async def encoded() -> list[TokensPrompt]:
            prompts = []
            for conversation in several:
                text = await self._llm.render(
                    conversation,
                    add_generation_prompt=add_generation_prompt,
                    continue_final_message=continue_final_message,
                    tools=told,
                    variables=chat_template_kwargs,
                )
                prompts.append(await self._llm.encode(text, add_special_tokens=False))
            return prompts

        requests = [
            self._llm.resolve(
                prompt, params=params, objectives=objectives, service_class=service_class
            )
            for prompt, params in zip(self._loop.run(encoded()), chosen, strict=True)
        ]
        return self._run(requests, use_tqdm=use_tqdm)

    def get_default_sampling_params(self, *, chat: bool = False) -> SamplingParams:
        """What prompts get that come without parameters, or conversations with `chat`."""
        defaults = self._llm.default_sampling
        return SamplingParams(**(defaults.chat if chat else defaults.completions).given())

    def get_tokenizer(self) -> Tokenizer:
        return self._llm.tokenizer

    @property
    def engine(self) -> AsyncLLM:
        """The asynchronous API beneath, for its facts; its methods belong to another thread."""
        return self._llm

    def close(self) -> None:
        """Stop the engine process and wait until it is gone. Closing again does nothing."""
        self._end()

    def __enter__(self) -> LLM:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _run(self, requests: Sequence[GenerationRequest], *, use_tqdm: bool) -> list[RequestOutput]:
        # tqdm reads None as "only on a terminal".
        disable = None if use_tqdm else True
        with tqdm(total=len(requests), desc="Generating", unit="req", disable=disable) as bar:
            return self._loop.run(_run_all(self._llm, requests, bar))


async def _run_all(
    llm: AsyncLLM, requests: Sequence[GenerationRequest], bar: tqdm[Any]
) -> list[RequestOutput]:
    progress = _Progress(bar)
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(_run_one(llm, each, progress)) for each in requests]
    except ExceptionGroup as errors:
        # One tells enough, and callers look for the error itself.
        if isinstance(first := errors.exceptions[0], HeadwayError):
            raise first from None
        raise
    return [task.result() for task in tasks]


async def _run_one(llm: AsyncLLM, request: GenerationRequest, progress: _Progress) -> RequestOutput:
    collector = OutputCollector(request, llm.tokenizer)
    stream = llm.run(request)
    try:
        async for delta in stream:
            collector.add(delta)
            progress.tokens += len(delta.token_ids)
    finally:
        stream.cancel()
    progress.request_done()
    return collector.output()


class _Progress:
    """The progress bar's figures: requests done, and output tokens per second."""

    def __init__(self, bar: tqdm[Any]) -> None:
        self.tokens = 0
        self._bar = bar

    def request_done(self) -> None:
        elapsed = self._bar.format_dict["elapsed"]
        if elapsed:
            self._bar.set_postfix_str(f"{self.tokens / elapsed:.0f} tok/s", refresh=False)
        self._bar.update()


def _config(model: str | None, settings: Mapping[str, Any]) -> EngineConfig:
    known = {field.name for field in fields(EngineConfig)} | PARAMETERS.keys()
    for name in settings:
        if name not in known:
            raise InvalidRequest(f"'{name}' is no engine setting", field=name)
    own, options = split_options(settings)
    options = {**own.pop("policy_options", {}), **options}
    return EngineConfig(model=model or DEFAULT_MODEL, policy_options=options, **own)


def _listed(prompts: Prompt | Sequence[Prompt]) -> list[Prompt]:
    """One prompt or many, as a list; a list of numbers is one prompt of token ids."""
    if isinstance(prompts, str):
        return [prompts]
    if isinstance(prompts, TokensPrompt):
        return [prompts]
    if prompts and isinstance(prompts[0], int):
        return [cast(Sequence[int], prompts)]
    return list(cast(Sequence[Prompt], prompts))


def _each(
    params: SamplingParams | Sequence[SamplingParams] | None, count: int, default: SamplingParams
) -> list[SamplingParams]:
    if params is None:
        return [default] * count
    if isinstance(params, SamplingParams):
        return [params] * count
    if len(params) != count:
        raise InvalidRequest(
            f"there are {count} prompts and {len(params)} sampling parameters",
            field="sampling_params",
        )
    return list(params)


def _shut_down(loop: LoopThread, llm: AsyncLLM) -> None:
    try:
        loop.run(llm.close())
    finally:
        loop.close()
