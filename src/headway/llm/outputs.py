"""What a caller gets back: pieces as they arrive (`Delta`), and whole results (`RequestOutput`).

`RequestOutput`, `CompletionOutput` and `Logprob` have vLLM's field names, so that code written
for it goes on working. A `Delta` is what is new of one continuation; the server streams these.
The collectors add deltas up: `ChoiceCollector` one continuation, `OutputCollector` a request.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import msgspec

from headway.llm.resolve import GenerationRequest
from headway.text import Tokenizer
from headway.types import FinishReason, TokenLogprobs


class Delta(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What is new of one continuation: text and tokens, or its end, or both.

    `index` says which: continuation c of prompt p is p * n + c. `text` may lag behind `token_ids`,
    where a character or a possible stop string is not complete yet; the last delta brings what is
    left. `logprobs` has one entry per new token when asked for. The first delta of a continuation
    carries `cached_tokens` (prompt tokens that came from the prefix cache) and `scheduled_at`
    (monotonic seconds at which it was first scheduled). `prompt_logprobs` has one entry per prompt
    token from the second on; it may come in parts, and on the first continuation of a prompt
    alone. `stop_reason` is the stop string or stop token id that ended it, None at the model's own
    end of sequence. With `finish_reason` "error", `error` says why, and `scheduled_at` is given
    once more: None then means that the engine refused the request. `draft_tokens` counts the drafts
    that were computed for it, and `accepted_tokens` those that proved right (docs/speculation.md).
    """

    index: int
    text: str = ""
    token_ids: tuple[int, ...] = ()
    logprobs: tuple[TokenLogprobs, ...] = ()
    finish_reason: FinishReason | None = None
    stop_reason: int | str | None = None
    error: str | None = None
    prompt_logprobs: tuple[TokenLogprobs, ...] = ()
    cached_tokens: int | None = None
    scheduled_at: float | None = None
    draft_tokens: int = 0
    accepted_tokens: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Logprob:
    """The natural-log probability of one token at one position; rank 1 is the likeliest."""

    logprob: float
    rank: int | None = None
    decoded_token: str | None = None


@dataclass(slots=True, kw_only=True)
class CompletionOutput:
    """One continuation so far. `logprobs` maps token ids to `Logprob`, one dict per token.

    `finish_reason` "error" is the engine's fault, and `error` says which; the text up to there
    stands. `draft_tokens` and `accepted_tokens` are those of its `Delta`s.
    """

    index: int
    text: str
    token_ids: list[int]
    cumulative_logprob: float | None = None
    logprobs: list[dict[int, Logprob]] | None = None
    finish_reason: FinishReason | None = None
    stop_reason: int | str | None = None
    error: str | None = None
    draft_tokens: int = 0
    accepted_tokens: int = 0

    def finished(self) -> bool:
        return self.finish_reason is not None


@dataclass(slots=True, kw_only=True)
class RequestOutput:
    """A request and its continuations so far; complete once `finished`.

    `prompt` is None where token ids were given. The first entry of `prompt_logprobs` is None, as
    nothing predicts the first token.
    """

    request_id: str
    prompt: str | None
    prompt_token_ids: list[int]
    prompt_logprobs: list[dict[int, Logprob] | None] | None
    outputs: list[CompletionOutput]
    finished: bool
    num_cached_tokens: int | None = None


@dataclass(slots=True)
class ChoiceCollector:
    """One continuation as far as it has come: its deltas, added up."""

    texts: list[str] = field(default_factory=list)
    token_ids: list[int] = field(default_factory=list)
    logprobs: list[TokenLogprobs] = field(default_factory=list)
    prompt_logprobs: list[TokenLogprobs] = field(default_factory=list)
    finish_reason: FinishReason | None = None
    stop_reason: int | str | None = None
    error: str | None = None
    draft_tokens: int = 0
    accepted_tokens: int = 0

    @property
    def text(self) -> str:
        if len(self.texts) > 1:
            self.texts = ["".join(self.texts)]
        return self.texts[0] if self.texts else ""

    def add(self, delta: Delta) -> None:
        """Take in the next delta of this continuation."""
        if delta.text:
            self.texts.append(delta.text)
        self.token_ids.extend(delta.token_ids)
        self.logprobs.extend(delta.logprobs)
        self.prompt_logprobs.extend(delta.prompt_logprobs)
        self.draft_tokens += delta.draft_tokens
        self.accepted_tokens += delta.accepted_tokens
        if delta.finish_reason is not None:
            self.finish_reason = delta.finish_reason
            self.stop_reason = delta.stop_reason
            self.error = delta.error


class OutputCollector:
    """What a request with one prompt has received. `add` every delta, take `output` at any time."""

    def __init__(self, request: GenerationRequest, tokenizer: Tokenizer) -> None:
        self._request = request
        self._tokenizer = tokenizer
        self._choices = [ChoiceCollector() for _ in request.requests]
        self._tables: list[list[dict[int, Logprob]]] = [[] for _ in request.requests]
        self._prompt_table: list[dict[int, Logprob]] = []
        self._cached: int | None = None

    @property
    def finished(self) -> bool:
        return all(choice.finish_reason is not None for choice in self._choices)

    def add(self, delta: Delta) -> None:
        """Take in the next delta of any continuation."""
        self._choices[delta.index].add(delta)
        if delta.index == 0 and delta.cached_tokens is not None:
            self._cached = delta.cached_tokens

    def output(self) -> RequestOutput:
        """Everything so far, in objects of its own."""
        (prompt,) = self._request.prompts
        wants_prompt = self._request.params.prompt_logprobs is not None
        self._extend(self._prompt_table, self._choices[0].prompt_logprobs)
        return RequestOutput(
            request_id=self._request.id,
            prompt=prompt.text,
            prompt_token_ids=list(prompt.token_ids),
            prompt_logprobs=[None, *self._prompt_table] if wants_prompt else None,
            outputs=[self._completion(index) for index in range(len(self._choices))],
            finished=self.finished,
            num_cached_tokens=self._cached,
        )

    def _completion(self, index: int) -> CompletionOutput:
        choice, table = self._choices[index], self._tables[index]
        params = self._request.params
        scored = params.logprobs is not None or params.logprob_token_ids is not None
        self._extend(table, choice.logprobs)
        return CompletionOutput(
            index=index,
            text=choice.text,
            token_ids=list(choice.token_ids),
            cumulative_logprob=sum(each.logprob for each in choice.logprobs) if scored else None,
            logprobs=list(table) if scored else None,
            finish_reason=choice.finish_reason,
            stop_reason=choice.stop_reason,
            error=choice.error,
            draft_tokens=choice.draft_tokens,
            accepted_tokens=choice.accepted_tokens,
        )

    def _extend(self, table: list[dict[int, Logprob]], positions: Sequence[TokenLogprobs]) -> None:
        """Bring a table up to date; what it has already is not computed again."""
        table.extend(self._row(position) for position in positions[len(table) :])

    def _row(self, position: TokenLogprobs) -> dict[int, Logprob]:
        """The chosen token first, then the likeliest; a token that is both stands once."""
        chosen = (position.token, position.logprob, position.rank)
        # Those that were asked for by id come in that order, and not by rank.
        by_rank = self._request.params.logprob_token_ids is None
        ranked = (
            (token, value, rank if by_rank else None)
            for rank, (token, value) in enumerate(position.top, 1)
        )
        row: dict[int, Logprob] = {}
        for token, value, rank in (chosen, *ranked):
            if token not in row:
                text = self._tokenizer.token_text(token)
                row[token] = Logprob(logprob=value, rank=rank, decoded_token=text)
        return row
