"""Writes the answers of llama.cpp's `/completion`: whole, or as server-sent events.

A stream ends with an event whose `stop` is true, and no other mark.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from headway.llm import AsyncLLM, ChoiceCollector, Delta, GenerationRequest
from headway.server.errors import detail_of, status_of
from headway.server.llamacpp.errors import llama_error
from headway.server.llamacpp.schema import (
    LlamaCompletion,
    LlamaCompletionBody,
    LlamaPiece,
    LlamaSettings,
    LlamaToken,
    LlamaTopToken,
)
from headway.server.openai.logprobs import LOWEST
from headway.server.timing import TimedUsage, timings_of
from headway.text import Tokenizer
from headway.types import SamplingParams, TokenLogprobs


class LlamaCompletionFormatter:
    """See `headway.server.formatter.Formatter`."""

    def __init__(
        self, generation: GenerationRequest, body: LlamaCompletionBody, llm: AsyncLLM, model: str
    ) -> None:
        self.usage = TimedUsage(generation)
        self._generation = generation
        self._body = body
        self._tokenizer = llm.tokenizer
        self._model = model
        self._n_ctx = llm.max_model_len
        # Such a request only computes its prompt; the one token that was generated is not shown.
        self._hides = body.n_predict == 0
        self._lines: set[int] = set()
        """Continuations that have more than one line, in a stream."""

    def events(self, delta: Delta) -> bytes:
        data = b""
        if "\n" in delta.text:
            self._lines.add(delta.index)
        if not self._hides and (delta.text or delta.token_ids):
            data = _event(self._piece(delta))
        if delta.finish_reason is not None:
            last = ChoiceCollector(finish_reason=delta.finish_reason, stop_reason=delta.stop_reason)
            data += _event(self._chosen(self._whole(delta.index, last, streamed=True)))
        return data

    def end(self) -> bytes:
        return b""

    def error(self, error: Exception) -> bytes:
        return _event(llama_error(detail_of(error), status_of(error)))

    def body(self, choices: Sequence[ChoiceCollector]) -> bytes:
        written = [self._chosen(self._whole(index, choice)) for index, choice in enumerate(choices)]
        return msgspec.json.encode(written if len(written) > 1 else written[0])

    def _piece(self, delta: Delta) -> LlamaPiece:
        times = self.usage.choices[delta.index]
        piece = LlamaPiece(
            index=delta.index,
            content=delta.text,
            tokens=delta.token_ids,
            tokens_predicted=times.generated_tokens,
            tokens_evaluated=times.prompt_tokens,
        )
        if self._body.n_probs:
            piece.completion_probabilities = self._probabilities(delta.logprobs)
        if self._body.timings_per_token:
            piece.timings = timings_of(times)
        return piece

    def _whole(
        self, index: int, choice: ChoiceCollector, *, streamed: bool = False
    ) -> LlamaCompletion:
        """The answer; of one that was streamed, `choice` has the end alone."""
        times, prompt = self.usage.choices[index], self._generation.prompt_of(index)
        reason, text = choice.stop_reason, "" if self._hides else choice.text
        ends = {"length": "limit", "stop": "word" if isinstance(reason, str) else "eos"}
        limited = choice.finish_reason == "length"
        whole = LlamaCompletion(
            index=index,
            content=text,
            tokens=choice.token_ids if self._body.return_tokens and not self._hides else (),
            model=self._model,
            tokens_predicted=0 if self._hides else times.generated_tokens,
            tokens_evaluated=times.prompt_tokens,
            generation_settings=self._settings(index),
            prompt=self._tokenizer.decode(prompt.token_ids, skip_special_tokens=False)
            if prompt.text is None
            else prompt.text,
            has_new_line=index in self._lines if streamed else "\n" in text,
            truncated=limited and self._generation.params.max_tokens is None,
            stop_type=ends.get(choice.finish_reason or "", "none"),
            stopping_word=reason if isinstance(reason, str) else "",
            tokens_cached=times.cached_tokens,
            timings=timings_of(times),
        )
        if self._body.n_probs and not streamed and not self._hides:
            whole.completion_probabilities = self._probabilities(choice.logprobs)
        return whole

    def _settings(self, index: int) -> LlamaSettings:
        request = self._generation.requests[index]
        settings = settings_of(self._generation.params, n_ctx=self._n_ctx, model=self._model)
        return msgspec.structs.replace(
            settings,
            n_predict=-1 if self._body.n_predict is None else self._body.n_predict,
            seed=request.sampling.seed,
            ignore_eos=bool(self._body.ignore_eos),
            stream=bool(self._body.stream),
            n_probs=self._body.n_probs or 0,
            grammar=self._body.grammar or "",
            timings_per_token=bool(self._body.timings_per_token),
        )

    def _chosen(self, answer: LlamaCompletion) -> Mapping[str, Any] | LlamaCompletion:
        """The fields that were asked for, those within others under their last name."""
        if not self._body.response_fields:
            return answer
        whole = msgspec.to_builtins(answer)
        found = {}
        for path in self._body.response_fields:
            value: Any = whole
            *above, name = path.split("/")
            for step in above:
                value = value.get(step) if isinstance(value, dict) else None
            if isinstance(value, dict) and name in value:
                found[path] = value[name]
        return found

    def _probabilities(self, positions: Sequence[TokenLogprobs]) -> list[LlamaToken]:
        top, tokenizer = self._body.n_probs or 0, self._tokenizer
        return [
            LlamaToken(
                id=position.token,
                token=tokenizer.token_text(position.token),
                bytes=list(tokenizer.token_bytes(position.token)),
                logprob=max(position.logprob, LOWEST),
                top_logprobs=[_top(*each, tokenizer) for each in position.top[:top]],
            )
            for position in positions
        ]


def settings_of(params: SamplingParams, *, n_ctx: int, model: str) -> LlamaSettings:
    """How such parameters sample; what a request alone knows is as if nothing was asked."""
    return LlamaSettings(
        n_ctx=n_ctx,
        model=model,
        n_predict=-1,
        seed=-1,
        temperature=params.temperature,
        top_k=max(0, params.top_k),
        top_p=params.top_p,
        min_p=params.min_p,
        repeat_penalty=params.repetition_penalty,
        presence_penalty=params.presence_penalty,
        frequency_penalty=params.frequency_penalty,
        repeat_last_n=params.repeat_last_n,
        stop=tuple(params.stop),
    )


def _top(token: int, logprob: float, tokenizer: Tokenizer) -> LlamaTopToken:
    return LlamaTopToken(
        id=token,
        token=tokenizer.token_text(token),
        bytes=list(tokenizer.token_bytes(token)),
        logprob=max(logprob, LOWEST),
    )


def _event(value: object) -> bytes:
    return b"data: " + msgspec.json.encode(value) + b"\n\n"
