"""What the server needs of a model: `headway.llm.AsyncLLM` has it, and so do the tests' fakes.

Protocols only. The endpoints know these and nothing of processes, engines or tensors.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

from headway.llm import Delta
from headway.types import SamplingParams, TokenEvent
from headway.wire import EngineInfo, EngineStats

Listener = Callable[[Sequence[TokenEvent], EngineStats, float], None]
"""Called with (events, stats, monotonic seconds) after every message of the engine."""


class Text(Protocol):
    @property
    def vocab_size(self) -> int: ...

    def decode(self, ids: Sequence[int], *, skip_special_tokens: bool = True) -> str: ...

    def token_text(self, token: int) -> str: ...

    def token_bytes(self, token: int) -> bytes: ...


class Template(Protocol):
    def render(
        self,
        messages: list[dict[str, Any]],
        *,
        add_generation_prompt: bool = True,
        continue_final_message: bool = False,
        **kwargs: Any,
    ) -> str: ...


class DeltaStream(Protocol):
    """Deltas of one prompt's continuations, until all have finished."""

    @property
    def prompt_token_ids(self) -> tuple[int, ...]: ...

    def cancel(self) -> None: ...

    def __aiter__(self) -> DeltaStream: ...

    async def __anext__(self) -> Delta: ...


class Client(Protocol):
    @property
    def state(self) -> str: ...

    @property
    def restarts(self) -> int: ...

    @property
    def info(self) -> EngineInfo: ...

    @property
    def stats(self) -> EngineStats: ...

    def subscribe(self, listener: Listener) -> object: ...


class Backend(Protocol):
    @property
    def client(self) -> Client: ...

    @property
    def tokenizer(self) -> Text: ...

    @property
    def chat_template(self) -> Template | None: ...

    @property
    def max_model_len(self) -> int: ...

    async def encode(self, text: str, *, add_special_tokens: bool = True) -> list[int]: ...

    def stream(
        self,
        prompt: str | Sequence[int],
        params: SamplingParams,
        *,
        request_id: str | None = None,
        priority: int = 0,
        cache_salt: str = "",
    ) -> DeltaStream: ...

    async def close(self) -> None: ...
