"""How generated deltas become the bytes of a response: what a dialect of HTTP API implements.

Deltas (text, tokens, the end of a continuation) go in, one by one; the events of the dialect come
out. `headway.server.generate` drives it and knows no dialect; a formatter sends nothing. A further
kind of news, such as tool calls, is a field of `Delta` that each dialect writes in its own way.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from headway.llm import ChoiceCollector, Delta, GenerationRequest
from headway.types.response_cache import CacheOutcome


class Formatter(Protocol):
    """Writes one response, either as events or whole."""

    def events(self, delta: Delta) -> bytes:
        """The events that this delta gives, encoded; empty where it says nothing yet."""
        ...

    def end(self) -> bytes:
        """The events that end a stream, after the last delta."""
        ...

    def error(self, error: Exception) -> bytes:
        """The events that end a stream which has begun and cannot go on."""
        ...

    def body(self, choices: Sequence[ChoiceCollector]) -> bytes:
        """The complete JSON body, instead of events."""
        ...

    @property
    def usage(self) -> UsageCounter:
        """The tokens so far. The driver adds every delta before it asks for its events."""
        ...


@dataclass(slots=True)
class UsageCounter:
    """Tokens of one request so far. A prompt counts once, however many continuations it has."""

    request: GenerationRequest
    prompt_tokens: int = field(init=False)
    cached_tokens: int = 0
    """Prompt tokens whose keys and values came from the prefix cache."""
    completion_tokens: int = 0
    outcome: CacheOutcome | None = None
    """How a response cache answered, once something has come; None where none was asked."""
    draft_tokens: int = 0
    """Tokens that were computed ahead of their sampling ..."""
    accepted_tokens: int = 0
    """... and those of them that sampling confirmed, which are among the completion's."""

    def __post_init__(self) -> None:
        self.prompt_tokens = sum(len(prompt.token_ids) for prompt in self.request.prompts)

    def add(self, delta: Delta) -> None:
        self.completion_tokens += len(delta.token_ids)
        if delta.cached_tokens and delta.index % self.request.params.n == 0:
            self.cached_tokens += delta.cached_tokens
        if delta.draft_tokens:
            self.draft_tokens += delta.draft_tokens
            self.accepted_tokens += delta.accepted_tokens

    @property
    def predicts(self) -> bool:
        """Whether drafts are worth telling: there were some, or the caller said what it expects."""
        # What is expected of the answer is the same for all continuations.
        return bool(self.draft_tokens) or any(each.prediction for each in self.request.requests[:1])
