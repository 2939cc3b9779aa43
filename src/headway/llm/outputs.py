"""What a caller gets back: pieces as they arrive (`Delta`), and whole results (`RequestOutput`).

`RequestOutput`, `CompletionOutput` and `Logprob` have vLLM's field names, so that code written
for it goes on working. A `Delta` is what is new of one continuation; the server streams these.
This module knows neither processes nor tokenizers.
"""

from __future__ import annotations

from dataclasses import dataclass

from headway.types import FinishReason, TokenLogprobs


@dataclass(frozen=True, slots=True, kw_only=True)
class Delta:
    """What is new of one continuation: text and tokens, or its end, or both.

    `index` says which: continuation c of prompt p is p * n + c. `text` may lag behind `token_ids`,
    where a character or a possible stop string is not complete yet; the last delta brings what is
    left. `logprobs` has one entry per new token when asked for. The first delta of a continuation
    carries `cached_tokens` (prompt tokens that came from the prefix cache) and `scheduled_at`
    (monotonic seconds at which it was first scheduled). `prompt_logprobs` has one entry per prompt
    token from the second on; it may come in parts, and on the first continuation of a prompt
    alone. `stop_reason` is the stop string or stop token id that ended it, None at the model's own
    end of sequence. With `finish_reason` "error", `error` says why, and `scheduled_at` is given
    once more: None then means that the engine refused the request.
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
    stands.
    """

    index: int
    text: str
    token_ids: list[int]
    cumulative_logprob: float | None = None
    logprobs: list[dict[int, Logprob]] | None = None
    finish_reason: FinishReason | None = None
    stop_reason: int | str | None = None
    error: str | None = None

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
