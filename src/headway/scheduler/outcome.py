"""What a step means for one sequence: whether it has ended, and the event its request hears."""

from __future__ import annotations

from headway.scheduler.sequence import Sequence
from headway.types import FinishReason, PromptLogprobs, Sampled, TokenEvent


def ending(seq: Sequence) -> FinishReason | None:
    """Why the sequence ends after its last token, which was generated; None if it goes on."""
    if seq.tokens[-1] in seq.stop_ids:
        return "stop"
    if len(seq.tokens) >= seq.full_length:  # which the context holds: admission saw to it
        return "length"
    return None


def token_event(seq: Sequence, sampled: Sampled, finish: FinishReason | None) -> TokenEvent:
    """News of one token, which is the last of `seq.tokens`."""
    logprobs = () if sampled.logprobs is None else (sampled.logprobs,)
    stop_reason = sampled.token if finish == "stop" else None
    if seq.announced:
        return TokenEvent(
            id=seq.request.id,
            tokens=(sampled.token,),
            logprobs=logprobs,
            finish=finish,
            stop_reason=stop_reason,
        )
    seq.announced = True
    return TokenEvent(
        id=seq.request.id,
        tokens=(sampled.token,),
        logprobs=logprobs,
        prompt_logprobs=tuple(seq.prompt_logprobs),
        finish=finish,
        stop_reason=stop_reason,
        cached_tokens=seq.cached_tokens,
        scheduled_at=seq.scheduled_at,
    )


def end_event(
    seq: Sequence,
    finish: FinishReason,
    *,
    error: str | None = None,
    stop_reason: int | None = None,
) -> TokenEvent:
    """The end of a request without a further token."""
    first = not seq.announced
    return TokenEvent(
        id=seq.request.id,
        finish=finish,
        error=error,
        stop_reason=stop_reason,
        cached_tokens=seq.cached_tokens if first else 0,
        scheduled_at=seq.scheduled_at if first else None,
    )


def keep_prompt_logprobs(seq: Sequence, news: PromptLogprobs) -> None:
    """Collect them until the first token's event, each position once even if recomputed."""
    if seq.wants_prompt_logprobs:
        known = len(seq.prompt_logprobs) + 1
        seq.prompt_logprobs += news.logprobs[known - news.start :]
