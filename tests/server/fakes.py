"""A model without a model: one character is one token, and the answer is the alphabet.

What `FakeEngine` generates is known by hand: token k of every continuation is letter k of the
alphabet, again and again, until `max_tokens` or a letter in `stop_token_ids`; or, if the engine has
an `answer`, that, and a token that ends it. `hold()` makes it wait, so that tests decide when a
request is queued, running or done. `FakeLLM` is the real `AsyncLLM` over it.
"""

from __future__ import annotations

import asyncio
import string
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import replace

from msgspec import structs

from headway.checkpoint import ModelConfig
from headway.client import EngineListener, EngineState, ReplicaState, ReplicaStatus, Stream
from headway.config import EngineConfig
from headway.llm import (
    AsyncLLM,
    ChatRenderer,
    DeltaStream,
    GenerationRequest,
    TokensPrompt,
)
from headway.text import ChatTemplate, TextConfig, Tokenizer
from headway.types import (
    SERVICE_CLASSES,
    Limits,
    Owner,
    Request,
    SamplingParams,
    TokenEvent,
    TokenLogprobs,
)
from headway.types.batch_news import BatchNews
from headway.types.engine import Hardware, SchedulerConfig
from headway.types.fleet import Role
from headway.wire import EngineInfo, EngineStats
from tests.client.one_engine import OneEngine

LETTERS = string.ascii_lowercase
NUM_BLOCKS = 100
TEMPLATE = (
    "{% for message in messages %}{{ message.role }}:{{ message.content }};{% endfor %}"
    "{% if thinking is defined %}[thinking={{ thinking }}]{% endif %}"
    "{% if add_generation_prompt %}assistant:{% endif %}"
)


class FakeTokenizer(Tokenizer):
    """Token ids are code points; the one special token that texts get is 2."""

    def __init__(self) -> None:
        self.config = TextConfig(eos_token_ids=())
        self.vocab_size = 0x10FFFF
        self._special = frozenset()

    def encode(self, text: str, *, add_special_tokens: bool = True) -> list[int]:
        return [2] * add_special_tokens + [ord(letter) for letter in text]

    def token_piece(self, token: int) -> str:
        return chr(token)

    def token_bytes(self, token: int) -> bytes:
        return chr(token).encode(errors="replace")


class FakeEngine(OneEngine):
    """An engine handle without an engine: tokens are made when they are asked for."""

    def __init__(self, max_model_len: int = 1000) -> None:
        self.state: EngineState = "ready"
        self.restarts = 0
        self.silence = 0.0
        self.last_step_age = 0.0
        self.stats = EngineStats(free_blocks=NUM_BLOCKS)
        self.info = EngineInfo(
            hardware=Hardware(
                device="cpu", dtype="float32", kv_cache_dtype="float32", backend="fake", threads=1
            ),
            scheduler=SchedulerConfig(
                limits=Limits(
                    max_num_seqs=8,
                    max_num_batched_tokens=64,
                    max_num_partial_prefills=1,
                    max_model_len=max_model_len,
                ),
                num_blocks=NUM_BLOCKS,
                block_size=8,
            ),
            kv_bytes=0,
            weight_bytes=0,
        )
        self.gate = asyncio.Event()
        self.gate.set()
        self.fault: tuple[int, TokenEvent] | None = None
        """After so many tokens of a continuation it ends with this event."""
        self.faulty = ""
        """Only of requests whose ids end so."""
        self.drafts = 0, 0
        """Drafts of every event but the first, and how many of them were right."""
        self.answer = ""
        """What every continuation says and ends with, instead of the alphabet."""
        self.running: set[str] = set()
        self.submitted: list[Request] = []
        self.closed = False
        self._listeners: list[EngineListener] = []
        self.watchers: list[Callable[[BatchNews], None]] = []

    def hold(self) -> None:
        self.gate.clear()

    def go_on(self) -> None:
        self.gate.set()

    def submit(self, *requests: Request) -> Stream:
        self.running.update(request.id for request in requests)
        self.submitted += requests
        return FakeStream(self, requests)

    def abort(self, request_id: str) -> None:
        self.running.discard(request_id)

    def take(self, request_id: str) -> Request | None:
        return None

    def subscribe(self, listener: EngineListener) -> Callable[[], None]:
        self._listeners.append(listener)
        return lambda: self._listeners.remove(listener)

    def watch_batch(self, listener: Callable[[BatchNews], None]) -> Callable[[], None]:
        self.watchers.append(listener)
        return lambda: self.watchers.remove(listener)

    @property
    def listening(self) -> int:
        """How many hear of every step."""
        return len(self._listeners)

    async def close(self) -> None:
        self.closed = True

    def report(self, event: TokenEvent) -> None:
        """One step of the engine, with news of one request."""
        if event.finish is not None:
            self.running.discard(event.id)
        running = len(self.running)
        self.stats = EngineStats(
            step=self.stats.step + 1,
            running=running,
            free_blocks=NUM_BLOCKS - running,
            step_tokens=len(event.tokens),
            step_seconds=0.001,
            prefix_queries=self.stats.prefix_queries + 10,
            prefix_hits=self.stats.prefix_hits + 5,
        )
        for listener in self._listeners:
            # As a client's: the loop's own clock stands still within a turn.
            listener([event], self.stats, time.monotonic())


class FakeFleet(FakeEngine):
    """Several engines as far as their handle tells: requests are made by the one fake engine."""

    def __init__(self, replicas: int, max_model_len: int = 1000) -> None:
        super().__init__(max_model_len)
        self.statuses = {each: self.status_of(each) for each in range(replicas)}
        self.changing = asyncio.Event()
        """Clear: adding and draining do not end."""
        self.changing.set()
        self.failure: Exception | None = None
        """What they raise in the end."""

    def status_of(self, replica: int, state: ReplicaState = "ready") -> ReplicaStatus:
        return ReplicaStatus(
            id=replica,
            state=state,
            pid=1000 + replica,
            restarts=replica,
            given=3 * replica,
            live=2 * replica,
            cpus=(replica,),
            gpu=f"GPU-{replica}",
            stats=EngineStats(
                step=10 + replica, running=replica, waiting=1, free_blocks=NUM_BLOCKS - 25 * replica
            ),
            info=self.info,
        )

    def become(self, replica: int, state: ReplicaState) -> None:
        self.statuses[replica] = self.status_of(replica, state)

    @property
    def replicas(self) -> Sequence[ReplicaStatus]:
        return list(self.statuses.values())

    async def add_replica(self, role: Role = "both") -> int:
        added = max(self.statuses) + 1
        self.become(added, "starting")
        await self._changed()
        self.statuses[added] = replace(self.status_of(added), role=role)
        return added

    async def drain(self, replica: int) -> int:
        self.become(replica, "draining")
        await self._changed()
        return self.statuses.pop(replica).live

    async def _changed(self) -> None:
        await self.changing.wait()
        if self.failure is not None:
            raise self.failure


class FakeStream(Stream):
    """The continuations take turns, a token each."""

    def __init__(self, engine: FakeEngine, requests: Sequence[Request]) -> None:
        super().__init__((request.id for request in requests), engine.running.difference_update)
        self._engine = engine
        self._turns = deque((request, len(request.generated)) for request in requests)
        self._pushing: asyncio.Future[None] | None = None

    async def __anext__(self) -> TokenEvent:
        event = self.take() or await self._made()
        if event is None:
            raise StopAsyncIteration
        return event

    def listen(self, on_news: Callable[[], None] | None) -> None:
        super().listen(on_news)
        if on_news is not None:
            self._pushing = asyncio.ensure_future(self._push_all())
        elif self._pushing is not None:
            self._pushing.cancel()

    async def _push_all(self) -> None:
        """Nobody asks for tokens who listens."""
        while (event := await self._made()) is not None:
            self._unread.setdefault(event.id, []).append(event)
            self.tell()
        self.tell()

    async def _made(self) -> TokenEvent | None:
        await asyncio.sleep(0)
        await self._engine.gate.wait()
        while self._turns:
            request, count = self._turns.popleft()
            if request.id in self._unfinished:
                return self._next_token(request, count)
        return None

    def _next_token(self, request: Request, count: int) -> TokenEvent:
        event = self._event(request, count)
        if event.finish is None:
            self._turns.append((request, count + 1))
        else:
            self._unfinished.discard(request.id)
        self._engine.report(event)
        return event

    def _event(self, request: Request, count: int) -> TokenEvent:
        fault = self._engine.fault
        if fault is not None and count >= fault[0] and request.id.endswith(self._engine.faulty):
            return structs.replace(fault[1], id=request.id)
        sampling = request.sampling
        answer = self._engine.answer
        ends = count == len(answer) > 0
        letter = answer[count : count + 1] if answer else LETTERS[count % len(LETTERS)]
        token = ord(letter or "\0")
        stops = token in sampling.stop_token_ids
        length = count + 1 == sampling.max_tokens
        top = sampling.logprobs
        first = count == 0
        over_prompt = sampling.prompt_logprobs if first else None
        return TokenEvent(
            id=request.id,
            tokens=() if ends else (token,),
            logprobs=()
            if top is None or ends
            else (_logprobs(token, top, sampling.logprob_token_ids),),
            prompt_logprobs=()
            if over_prompt is None
            else tuple(_logprobs(each, over_prompt) for each in request.prompt[1:]),
            finish="stop" if stops or ends else "length" if length else None,
            stop_reason=token if stops else None,
            cached_tokens=2 if first else 0,
            draft_tokens=0 if first else self._engine.drafts[0],
            accepted_tokens=0 if first else self._engine.drafts[1],
            scheduled_at=asyncio.get_running_loop().time() if first else None,
        )


def _logprobs(token: int, top: int, listed: tuple[int, ...] = ()) -> TokenLogprobs:
    """The token has logprob -0.5 and rank 2, behind the next letter; the rest have -inf."""
    if listed:
        chosen = tuple((each, -0.125 * each) for each in listed)
        return TokenLogprobs(token=token, logprob=-0.5, rank=2, top=chosen)
    ranked = ((token + 1, -0.25), (token, -0.5), (token + 2, float("-inf")))
    return TokenLogprobs(token=token, logprob=-0.5, rank=2, top=ranked[:top])


class FakeLLM(AsyncLLM):
    """`AsyncLLM` over `FakeEngine`, which remembers what it was asked."""

    def __init__(
        self,
        *,
        template: bool = True,
        max_model_len: int = 1000,
        config: EngineConfig | None = None,
        replicas: int = 1,
    ) -> None:
        """Of `config` only the objectives count."""
        one = replicas == 1
        self.engine = FakeEngine(max_model_len) if one else FakeFleet(replicas, max_model_len)
        config = config or EngineConfig()
        super().__init__(
            self.engine,
            model_config=ModelConfig(
                architecture="llama",
                name="alphabet",
                vocab_size=0x10FFFF,
                hidden_size=8,
                num_layers=1,
                num_heads=1,
                num_kv_heads=1,
                head_dim=8,
                intermediate_size=8,
                max_position=max_model_len,
            ),
            tokenizer=FakeTokenizer(),
            chat_template=ChatRenderer.trusted(ChatTemplate(TEMPLATE, TextConfig(eos_token_ids=())))
            if template
            else None,
            objectives={each: config.objectives_of(each) for each in SERVICE_CLASSES},
        )
        self.asked: list[tuple[tuple[int, ...], SamplingParams, int, str]] = []
        """Prompt, parameters, priority and cache salt of everything that was run."""
        self.owners: list[Owner] = []
        """Whom it was for."""
        self.encoded = 0
        """Prompts that were given to `encode`."""
        self.encoding = asyncio.Event()
        """Clear: encoding does not end."""
        self.encoding.set()
        self.bug: Exception | None = None
        """What `run` raises, as a fault of ours would."""

    async def encode(
        self,
        prompt: str | Sequence[int],
        *,
        add_special_tokens: bool = True,
        truncate_to: int | None = None,
        keep_first: bool = False,
        must_fit: bool = True,
    ) -> TokensPrompt:
        self.encoded += 1
        await self.encoding.wait()
        return await super().encode(
            prompt,
            add_special_tokens=add_special_tokens,
            truncate_to=truncate_to,
            keep_first=keep_first,
            must_fit=must_fit,
        )

    def run(self, request: GenerationRequest, *, anew: bool = False) -> DeltaStream:
        if self.bug is not None:
            raise self.bug
        for prompt in request.prompts:
            first = request.requests[0]
            given = (prompt.token_ids, request.params, first.priority, first.cache_salt)
            self.asked.append(given)
            self.owners.append(Owner(first.tenant, first.caller))
        return super().run(request, anew=anew)
