"""A model without a model: one character is one token, and the answer is the alphabet.

What `FakeLLM` says is known by hand: token k of every continuation is letter k of the alphabet,
again and again, until `max_tokens`, a stop string or the letter in `stop_token_ids`. `hold()`
makes it wait, so that tests decide when a request is queued, running or done.
"""

from __future__ import annotations

import asyncio
import string
from collections.abc import Sequence
from typing import Any

from headway.errors import InvalidRequest, RequestTooLarge
from headway.llm import Delta
from headway.server.backend import Listener
from headway.types import Limits, SamplingParams, TokenEvent, TokenLogprobs
from headway.wire import EngineInfo, EngineStats

LETTERS = string.ascii_lowercase
NUM_BLOCKS = 100


class FakeText:
    vocab_size = 0x10FFFF

    def decode(self, ids: Sequence[int], *, skip_special_tokens: bool = True) -> str:
        return "".join(map(chr, ids))

    def token_text(self, token: int) -> str:
        return chr(token)

    def token_bytes(self, token: int) -> bytes:
        return chr(token).encode()


class FakeTemplate:
    """Writes `role:content;` per message, and `assistant:` where an answer is wanted."""

    def render(
        self,
        messages: list[dict[str, Any]],
        *,
        add_generation_prompt: bool = True,
        continue_final_message: bool = False,
        **kwargs: Any,
    ) -> str:
        text = "".join(f"{m['role']}:{m['content']};" for m in messages)
        if continue_final_message:
            text = text[:-1]
        text += "".join(f"[{k}={v}]" for k, v in kwargs.items())
        return text + ("assistant:" if add_generation_prompt else "")


class FakeClient:
    def __init__(self) -> None:
        self.state = "ready"
        self.restarts = 0
        self.stats = EngineStats(free_blocks=NUM_BLOCKS)
        self.listeners: list[Listener] = []
        self.info = EngineInfo(
            device="cpu",
            dtype="float32",
            backend="fake",
            threads=1,
            policy="continuous",
            limits=Limits(
                max_num_seqs=8,
                max_num_batched_tokens=64,
                max_num_partial_prefills=1,
                max_model_len=1000,
            ),
            num_blocks=NUM_BLOCKS,
            block_size=8,
            kv_bytes=0,
            weight_bytes=0,
        )

    def subscribe(self, listener: Listener) -> object:
        self.listeners.append(listener)
        return None

    def tell(self, event: TokenEvent, running: int) -> None:
        """One step of the engine, in which one request heard something."""
        loop = asyncio.get_running_loop()
        self.stats = EngineStats(
            step=self.stats.step + 1,
            running=running,
            free_blocks=NUM_BLOCKS - running,
            step_tokens=len(event.tokens),
            step_seconds=0.001,
            prefix_queries=self.stats.prefix_queries + 10,
            prefix_hits=self.stats.prefix_hits + 5,
        )
        for listener in self.listeners:
            listener([event], self.stats, loop.time())


class FakeStream:
    """The continuations of one prompt take turns, a token each."""

    def __init__(
        self, llm: FakeLLM, prompt: tuple[int, ...], params: SamplingParams, request_id: str
    ) -> None:
        self.prompt_token_ids = prompt
        self._llm = llm
        self._params = params
        self._id = request_id
        self._said = [""] * params.n
        self._open = list(range(params.n))
        self._turn = 0
        llm.running.update(self._names())

    def _names(self) -> list[str]:
        several = self._params.n > 1
        return [f"{self._id}-{i}" if several else self._id for i in self._open]

    def cancel(self) -> None:
        for name in self._names():
            self._llm.running.discard(name)
            self._llm.cancelled.append(name)
        self._open.clear()

    def __aiter__(self) -> FakeStream:
        return self

    async def __anext__(self) -> Delta:
        if not self._open:
            raise StopAsyncIteration
        await asyncio.sleep(0)
        await self._llm.gate.wait()
        if not self._open:
            raise StopAsyncIteration
        index = self._open[self._turn % len(self._open)]
        if self._llm.fault is not None and len(self._said[index]) >= self._llm.fault[0]:
            return self._end(index, self._llm.fault[1])
        return self._say(index)

    def _end(self, index: int, delta: Delta) -> Delta:
        self._llm.running.difference_update(self._names())
        self._open.clear()
        return delta

    def _say(self, index: int) -> Delta:
        params = self._params
        first = not self._said[index]
        letter = LETTERS[len(self._said[index]) % len(LETTERS)]
        self._said[index] += letter
        stop = next((s for s in params.stop if self._said[index].endswith(s)), None)
        text = "" if stop is not None else letter
        token = ord(letter)
        finish = None
        if stop is not None or token in params.stop_token_ids:
            finish = "stop"
        elif len(self._said[index]) == params.max_tokens:
            finish = "length"
        name = f"{self._id}-{index}" if params.n > 1 else self._id
        self._turn += 1
        if finish is not None:
            self._turn -= 1
            self._open.remove(index)
            self._llm.running.discard(name)
        event = TokenEvent(
            id=name,
            tokens=(token,),
            cached_tokens=2 if first else 0,
            scheduled_at=asyncio.get_running_loop().time() if first else None,
        )
        self._llm.client.tell(event, len(self._llm.running))
        return Delta(
            index=index,
            text=text,
            token_ids=(token,),
            logprobs=(_logprobs(token, params.logprobs),) if params.logprobs is not None else (),
            finish_reason="stop" if finish == "stop" else ("length" if finish else None),
            stop_reason=stop if stop is not None else (token if finish == "stop" else None),
            prompt_token_ids=self.prompt_token_ids if first and index == 0 else None,
            prompt_logprobs=self._prompt_logprobs() if first and index == 0 else (),
            cached_tokens=event.cached_tokens if first else None,
            scheduled_at=event.scheduled_at,
        )

    def _prompt_logprobs(self) -> tuple[TokenLogprobs, ...]:
        top = self._params.prompt_logprobs
        if top is None:
            return ()
        return tuple(_logprobs(token, top) for token in self.prompt_token_ids[1:])


def _logprobs(token: int, top: int | None) -> TokenLogprobs:
    """The token has logprob -0.5 and rank 2, behind the next letter; the rest have -inf."""
    ranked = ((token + 1, -0.25), (token, -0.5), (token + 2, float("-inf")))
    return TokenLogprobs(token=token, logprob=-0.5, rank=2, top=ranked[: top or 0])


class FakeLLM:
    max_model_len = 1000

    def __init__(self, *, template: bool = True) -> None:
        self.client = FakeClient()
        self.tokenizer = FakeText()
        self.chat_template = FakeTemplate() if template else None
        self.gate = asyncio.Event()
        self.gate.set()
        self.fault: tuple[int, Delta] | None = None
        """After so many tokens of a continuation, this delta comes and the request is over."""
        self.running: set[str] = set()
        self.cancelled: list[str] = []
        self.asked: list[tuple[tuple[int, ...], SamplingParams, int, str]] = []
        self.closed = False
        self.bug: Exception | None = None
        """What `stream` raises, as a fault of ours would."""

    def hold(self) -> None:
        self.gate.clear()

    def go_on(self) -> None:
        self.gate.set()

    async def encode(self, text: str, *, add_special_tokens: bool = True) -> list[int]:
        return [2] * add_special_tokens + [ord(letter) for letter in text]

    def stream(
        self,
        prompt: str | Sequence[int],
        params: SamplingParams,
        *,
        request_id: str | None = None,
        priority: int = 0,
        cache_salt: str = "",
    ) -> FakeStream:
        assert not isinstance(prompt, str)
        assert request_id is not None
        if self.bug is not None:
            raise self.bug
        if not prompt:
            raise InvalidRequest("the prompt is empty", field="prompt")
        if len(prompt) >= self.max_model_len:
            raise RequestTooLarge(f"the prompt has {len(prompt)} tokens", field="prompt")
        self.asked.append((tuple(prompt), params, priority, cache_salt))
        return FakeStream(self, tuple(prompt), params, request_id)

    async def close(self) -> None:
        self.closed = True
