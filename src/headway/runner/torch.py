"""Computes steps with a loaded model: a forward pass over all new tokens, then the next tokens.

Whatever a step holds (whole prompts, chunks of prompts, single new tokens) goes through one
forward pass over its flattened tokens; the head runs only on the rows whose scores are needed.
Knows no queue, no policy and no request: a plan says all.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np
import torch
from torch import Tensor

from headway.models import Model
from headway.ops.reference import (
    Batch,
    HostBatch,
    KVCache,
    ReferenceBackend,
    ReferenceOps,
    ReferenceWeights,
)
from headway.runner.batch import NOT_FINITE, NOTHING_LEFT, Computed, InputBatch, Ints, RequestState
from headway.runner.sampling.logprobs import gather_logprobs
from headway.runner.sampling.steps import sample
from headway.types import (
    Limits,
    PromptLogprobs,
    Sampled,
    Slice,
    StepPlan,
    StepResult,
    TokenLogprobs,
)

# Bounds the memory of scores and of what sampling makes of them.
_MOST_ROWS = 128
_MOST_SCORES = 2**24


@dataclass(frozen=True, slots=True, kw_only=True)
class Forward:
    """A forward pass that is done: its hidden states [T, H], and the head over some of them."""

    model: Model
    words: ReferenceOps
    hidden: Tensor

    def scores(self, places: list[int]) -> Tensor:
        """Scores [places, vocabulary] of the hidden states in these rows."""
        index = torch.tensor(places, device=self.hidden.device)
        return self.model.logits(self.words, self.hidden.index_select(0, index))


class TorchRunner:
    """A `Runner` of one model on one device; `submit` returns when the step is computed.

    A sequence's blocks may only be added to while it stays; whoever wants others ends it first.
    """

    def __init__(
        self,
        *,
        model: Model,
        backend: ReferenceBackend,
        weights: ReferenceWeights,
        cache: KVCache,
        limits: Limits,
    ) -> None:
        self._model = model
        self._backend = backend
        self._weights = weights
        self._cache = cache
        self._rows = InputBatch(
            max_seqs=limits.max_num_seqs,
            max_len=limits.max_model_len,
            block_size=cache.shape.block_size,
        )
        width = model.config.vocab_size
        self._chunk = max(1, min(_MOST_ROWS, _MOST_SCORES // width))

    @torch.inference_mode()
    def submit(self, plan: StepPlan) -> Computed:
        """Compute a step. A sequence whose scores are not finite gets an error, the rest goes on.

        Raises what the device raises, for example `torch.OutOfMemoryError`.
        """
        began = time.perf_counter()
        for seq in plan.ended:
            self._rows.end(seq)
        for entry in plan.entries:
            self._rows.enter(entry)
        sampled: list[Sampled] = []
        prompts: list[PromptLogprobs] = []
        if plan.slices:
            rows = self._rows.of(plan.slices)
            forward = self._forward(self._batch(plan.slices, rows))
            ends = np.cumsum([len(part.tokens) for part in plan.slices])
            _mark_broken(forward.hidden, ends, rows)
            sampled = self._sample(plan.slices, rows, forward, ends.tolist())
            prompts = list(self._prompts(plan.slices, rows, forward, ends.tolist()))
        return Computed(
            answer=StepResult(
                step=plan.step,
                sampled=sampled,
                prompt_logprobs=prompts,
                seconds=time.perf_counter() - began,
            )
        )

    def _batch(self, slices: Sequence[Slice], rows: Sequence[RequestState]) -> Batch:
        counts = np.array([len(part.tokens) for part in slices], dtype=np.int64)
        tokens = chain.from_iterable(part.tokens for part in slices)
        host = HostBatch(
            tokens=np.fromiter(tokens, dtype=np.int64, count=int(counts.sum())),
            starts=np.array([part.start for part in slices], dtype=np.int64),
            counts=counts,
            tables=self._rows.tables(rows),
        )
        model = self._model
        return self._backend.batch(host, self._cache.shape, model.windows, model.config.num_heads)

    def _forward(self, batch: Batch) -> Forward:
        words = self._backend.step(self._weights, self._cache, batch)
        return Forward(model=self._model, words=words, hidden=self._model.forward(words))

    def _sample(
        self,
        slices: Sequence[Slice],
        rows: Sequence[RequestState],
        forward: Forward,
        ends: list[int],
    ) -> list[Sampled]:
        """The next token of every slice that samples, in the plan's order."""
        asking = [n for n, part in enumerate(slices) if part.sample]
        sampled: list[Sampled] = []
        for begin in range(0, len(asking), self._chunk):
            part = asking[begin : begin + self._chunk]
            scores = forward.scores([ends[n] - 1 for n in part])
            found = _choose(scores, [rows[n] for n in part])
            sampled += (
                Sampled(seq=slices[n].seq, token=token, logprobs=logprobs, error=error)
                for n, (token, logprobs, error) in zip(part, found, strict=True)
            )
        return sampled

    def _prompts(
        self,
        slices: Sequence[Slice],
        rows: Sequence[RequestState],
        forward: Forward,
        ends: list[int],
    ) -> Iterator[PromptLogprobs]:
        """Log probabilities of the prompt tokens that follow a token of this step."""
        for part, row, end in zip(slices, rows, ends, strict=True):
            top = row.sampling.prompt_logprobs
            last = min(part.start + len(part.tokens), row.prompt_len - 1)
            if top is None or last <= part.start:
                continue
            first = end - len(part.tokens)
            targets = row.tokens[part.start + 1 : last + 1].tolist()
            found: list[TokenLogprobs] = []
            for begin in range(0, len(targets), self._chunk):
                some = targets[begin : begin + self._chunk]
                places = range(first + begin, first + begin + len(some))
                found += gather_logprobs(forward.scores(list(places)), some, [top] * len(some))
            yield PromptLogprobs(seq=part.seq, start=part.start + 1, logprobs=tuple(found))


def _mark_broken(hidden: Tensor, ends: Ints, rows: Sequence[RequestState]) -> None:
    finite = torch.isfinite(hidden.sum(-1, dtype=torch.float32)).cpu().numpy()
    if not finite.all():
        for token in np.flatnonzero(~finite):
            rows[int(np.searchsorted(ends, token, side="right"))].broken = True


def _choose(
    scores: Tensor, rows: Sequence[RequestState]
) -> list[tuple[int, TokenLogprobs | None, str | None]]:
    """Token, log probabilities and error of each row; a row with an error has token 0."""
    finite: list[bool] = torch.isfinite(scores.sum(-1, dtype=torch.float32)).tolist()
    whole = [fine and not row.broken for fine, row in zip(finite, rows, strict=True)]
    tokens = sample(scores, [row.ask() for row in rows])
    chosen = [
        n
        for n, row in enumerate(rows)
        if row.sampling.logprobs is not None and whole[n] and tokens[n] is not None
    ]
    described = (
        dict(
            zip(
                chosen,
                gather_logprobs(
                    scores[chosen],
                    [tokens[n] or 0 for n in chosen],
                    [rows[n].sampling.logprobs or 0 for n in chosen],
                ),
                strict=True,
            )
        )
        if chosen
        else {}
    )
    found: list[tuple[int, TokenLogprobs | None, str | None]] = []
    for n, token in enumerate(tokens):
        if not whole[n]:
            found.append((0, None, NOT_FINITE))
        elif token is None:
            found.append((0, None, NOTHING_LEFT))
        else:
            found.append((token, described.get(n), None))
    return found
