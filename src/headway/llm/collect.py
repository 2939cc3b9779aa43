"""Deltas added up: from a stream's news to whole `RequestOutput`s with vLLM's fields."""

from __future__ import annotations

from dataclasses import dataclass, field

from headway.llm.outputs import CompletionOutput, Delta, Logprob, RequestOutput
from headway.llm.stream import ResolvedRequest
from headway.text import Tokenizer
from headway.types import FinishReason, SamplingParams, TokenLogprobs


@dataclass(slots=True, kw_only=True)
class _Growing:
    """One continuation so far."""

    texts: list[str] = field(default_factory=list)
    tokens: list[int] = field(default_factory=list)
    logprobs: list[dict[int, Logprob]] = field(default_factory=list)
    total_logprob: float = 0.0
    finish_reason: FinishReason | None = None
    stop_reason: int | str | None = None
    error: str | None = None


class Collector:
    """What one request has received. `add` every delta, take `output` at any time."""

    def __init__(self, resolved: ResolvedRequest, tokenizer: Tokenizer) -> None:
        self._resolved = resolved
        self._tokenizer = tokenizer
        self._growing = [_Growing() for _ in resolved.requests]
        self._prompt_logprobs: list[dict[int, Logprob] | None] = [None]
        self._cached: int | None = None

    @property
    def finished(self) -> bool:
        return all(each.finish_reason is not None for each in self._growing)

    def add(self, delta: Delta) -> None:
        """Take in news of a continuation."""
        growing = self._growing[delta.index]
        growing.texts.append(delta.text)
        growing.tokens.extend(delta.token_ids)
        growing.logprobs.extend(self._table(each) for each in delta.logprobs)
        growing.total_logprob += sum(each.logprob for each in delta.logprobs)
        self._prompt_logprobs.extend(self._table(each) for each in delta.prompt_logprobs)
        if delta.cached_tokens is not None and delta.index == 0:
            self._cached = delta.cached_tokens
        if delta.finish_reason is not None:
            growing.finish_reason = delta.finish_reason
            growing.stop_reason = delta.stop_reason
            growing.error = delta.error

    def output(self) -> RequestOutput:
        """Everything so far, in objects of its own."""
        resolved = self._resolved
        wants_prompt = resolved.params.prompt_logprobs is not None
        return RequestOutput(
            request_id=resolved.request_id,
            prompt=resolved.prompt,
            prompt_token_ids=list(resolved.prompt_token_ids),
            prompt_logprobs=list(self._prompt_logprobs) if wants_prompt else None,
            outputs=[
                _completion(index, growing, resolved.params)
                for index, growing in enumerate(self._growing)
            ],
            finished=self.finished,
            num_cached_tokens=self._cached,
        )

    def _table(self, position: TokenLogprobs) -> dict[int, Logprob]:
        """The chosen token first, then the likeliest; a token that is both stands once."""
        chosen = (position.token, position.logprob, position.rank)
        ranked = ((token, value, rank) for rank, (token, value) in enumerate(position.top, 1))
        table: dict[int, Logprob] = {}
        for token, value, rank in (chosen, *ranked):
            if token not in table:
                text = self._tokenizer.token_text(token)
                table[token] = Logprob(logprob=value, rank=rank, decoded_token=text)
        return table


def _completion(index: int, growing: _Growing, params: SamplingParams) -> CompletionOutput:
    scored = params.logprobs is not None
    if len(growing.texts) > 1:
        growing.texts = ["".join(growing.texts)]
    return CompletionOutput(
        index=index,
        text=growing.texts[0] if growing.texts else "",
        token_ids=list(growing.tokens),
        cumulative_logprob=growing.total_logprob if scored else None,
        logprobs=list(growing.logprobs) if scored else None,
        finish_reason=growing.finish_reason,
        stop_reason=growing.stop_reason,
        error=growing.error,
    )
