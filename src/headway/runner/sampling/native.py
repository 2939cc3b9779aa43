"""Sampling by the native kernels: records of what is asked, and what their results mean.

What stays the same for a sequence is written into an `abi.HwSampling` record once, when it enters;
a step copies the records of its sequences and fills in where they are now. Which tokens are banned
by what was generated, or may not come next, is worked out here; all other steps of
sampling are the kernels' (`sampler` and `steps` are the definition). Knows no model, no blocks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import chain
from typing import Any

import numpy as np
import numpy.typing as npt

from headway.errors import InvalidRequest
from headway.native import abi
from headway.ops.native import address
from headway.ops.protocol import Ints
from headway.runner.batch import RequestState, bad_word_ends, early_stops, first_penalised
from headway.runner.sampling.constraints import next_tokens
from headway.types import TokenLogprobs
from headway.types.sampling import ALL_TOKENS

Records = npt.NDArray[Any]
"""An array of `abi.HwSampling` or `abi.HwSampledToken`."""

_SAMPLING = np.dtype(abi.HwSampling)
_SAMPLED = np.dtype(abi.HwSampledToken)
_COPIED = (
    *("seed", "temperature", "top_p", "min_p"),
    *("repetition_penalty", "frequency_penalty", "presence_penalty"),
)


class SamplingRecords:
    """A record for each sequence, by its row in the `InputBatch`, and the arrays they point at."""

    def __init__(self, *, vocabulary: int) -> None:
        self._vocabulary = vocabulary
        self._records: Records = np.zeros(1, dtype=_SAMPLING)
        self._arrays: dict[int, tuple[npt.NDArray[Any], ...]] = {}
        self._listed: tuple[tuple[int, ...] | None, Ints] = (None, np.array((), dtype=np.int64))
        """The latest sequence's allowed tokens, which the others of its group share."""
        self._banning: set[int] = set()
        """Rows of sequences whose generated tokens may rule others out."""
        self._windowed: set[int] = set()
        """Rows of sequences whose penalties look at their last tokens alone."""

    def add(self, state: RequestState) -> None:
        """Note a sequence; raises `InvalidRequest` for a token that the model does not have."""
        sampling = state.sampling
        if self._listed[0] is not sampling.allowed_token_ids:
            listed = np.array(sampling.allowed_token_ids or (), dtype=np.int64)
            self._listed = (sampling.allowed_token_ids, listed)
        allowed = self._listed[1]
        biased = np.array([token for token, _ in sampling.logit_bias], dtype=np.int64)
        amounts = np.array([amount for _, amount in sampling.logit_bias], dtype=np.float32)
        banned = [*sampling.stop_token_ids, *chain.from_iterable(sampling.bad_words)]
        banned += sampling.logprob_token_ids
        for tokens in (state.tokens[: state.length], allowed, biased, np.array(banned, np.int64)):
            self.check(tokens)
        while len(self._records) <= state.row:
            self._records = np.concatenate((self._records, np.zeros_like(self._records)))
        self._arrays[state.row] = (state.tokens, allowed, biased, amounts)
        record = self._records[state.row : state.row + 1]
        record["target"] = -1
        record["tokens"], record["prompt_len"] = address(state.tokens), state.prompt_len
        record["allowed"] = address(allowed)
        record["num_allowed"] = -1 if sampling.allowed_token_ids is None else len(allowed)
        record["bias_tokens"], record["bias_values"] = address(biased), address(amounts)
        record["num_bias"] = len(biased)
        record["logprobs"] = -1 if sampling.logprobs is None else sampling.logprobs
        record["greedy"] = state.greedy
        # Whatever passes the vocabulary means all of it.
        record["top_k"] = min(sampling.top_k, self._vocabulary)
        for name in _COPIED:
            record[name] = getattr(sampling, name)
        _mark(self._banning, state.row, bool(sampling.bad_words or sampling.min_tokens))
        _mark(self._windowed, state.row, sampling.repeat_last_n != ALL_TOKENS)

    def sample(
        self, states: Sequence[RequestState], step_rows: Ints, ahead: Ints
    ) -> SamplingRequests:
        """Ask for a token of each sequence: the next one after as many drafts as `ahead` says.

        It comes from the hidden state in its row of the step.
        """
        rows = [state.row for state in states]
        records = self._records[rows]
        records["row"] = step_rows
        records["position"] = records["num_tokens"] = ahead + [state.length for state in states]
        for n in [n for n, row in enumerate(rows) if row in self._windowed]:
            _leave_out(records[n], first_penalised(states[n].sampling, records[n]["num_tokens"]))
        arrays: list[npt.NDArray[Any]] = []
        allowed = next_tokens(states, ahead, self._vocabulary)
        for n, each in allowed.items():
            records[n]["mask"] = address(each.mask)
            arrays.append(each.mask)
            if each.forced:
                records[n]["num_allowed"] = -1
        for n in [n for n, row in enumerate(rows) if row in self._banning]:
            metadata = states[n].sampling_metadata(int(ahead[n]), allowed.get(n))
            banned = np.array(early_stops(metadata) + bad_word_ends(metadata), dtype=np.int64)
            records[n]["banned"], records[n]["num_banned"] = address(banned), len(banned)
            arrays.append(banned)
        return SamplingRequests(records=records, arrays=tuple(arrays))

    def check(self, tokens: Ints) -> None:
        """The kernels index memory with tokens, so none may pass that callers overlooked."""
        if len(tokens) and not 0 <= tokens.min() <= tokens.max() < self._vocabulary:
            raise InvalidRequest(
                f"a token is not in [0, {self._vocabulary}), the vocabulary of the model"
            )


def _mark(rows: set[int], row: int, marked: bool) -> None:
    if marked:
        rows.add(row)
    else:
        rows.discard(row)


def _leave_out(record: Any, first: int) -> None:
    """Let a record's penalties look at no token before this one."""
    record["tokens"] += np.uint64(first * np.dtype(np.int64).itemsize)
    record["num_tokens"] -= first
    record["prompt_len"] = max(0, record["prompt_len"] - first)


@dataclass(frozen=True, slots=True, kw_only=True)
class SamplingRequests:
    """What a step asks for, a record for each token, and the arrays that the records point at."""

    records: Records
    arrays: tuple[npt.NDArray[Any], ...] = ()


def gather_logprobs(
    state: RequestState, step_rows: Ints, targets: Ints, top: int
) -> SamplingRequests:
    """Ask for log probabilities of given tokens, and of the `top` likeliest beside each."""
    records = np.zeros(len(targets), dtype=_SAMPLING)
    records["row"], records["target"] = step_rows, targets
    records["tokens"], records["prompt_len"] = address(state.tokens), state.prompt_len
    records["num_tokens"] = records["position"] = state.length
    records["num_allowed"] = -1
    records["top_p"] = records["repetition_penalty"] = 1.0
    records["greedy"] = True
    records["logprobs"] = top
    return SamplingRequests(records=records, arrays=(state.tokens,))


class SamplerOutput:
    """Memory for the results of a step's requests, and what they say once the step is done."""

    def __init__(self, requests: Sequence[SamplingRequests]) -> None:
        parts = [part.records for part in requests]
        self._arrays = [part.arrays for part in requests]
        self.sampling: Records = np.concatenate(parts) if parts else np.zeros(0, dtype=_SAMPLING)
        self.sampled: Records = np.zeros(len(self.sampling), dtype=_SAMPLED)
        self._wanted: list[int] = self.sampling["logprobs"].tolist()
        counts = np.maximum(self.sampling["logprobs"], 0).astype(np.uint64)
        ends = counts.cumsum()
        if len(ends) and ends[-1]:
            # One after the other, as many as each wants: some may want the whole vocabulary.
            self._ids = np.zeros(int(ends[-1]), dtype=np.int64)
            self._values = np.zeros(int(ends[-1]), dtype=np.float32)
            starts = ends - counts
            self.sampled["top_tokens"] = address(self._ids) + starts * np.uint64(8)
            self.sampled["top_logprobs"] = address(self._values) + starts * np.uint64(4)
            self._ends: list[int] = ends.tolist()

    def tokens(self) -> list[int]:
        found: list[int] = self.sampled["token"].tolist()
        return found

    def statuses(self) -> list[int]:
        found: list[int] = self.sampled["status"].tolist()
        return found

    def logprobs(self, n: int) -> TokenLogprobs | None:
        """Of the n-th request, where they were asked for."""
        top = self._wanted[n]
        if top < 0:
            return None
        result = self.sampled[n]
        likeliest: tuple[tuple[int, float], ...] = ()
        if top > 0:
            span = slice(self._ends[n] - top, self._ends[n])
            pairs = zip(self._ids[span].tolist(), self._values[span].tolist(), strict=True)
            likeliest = tuple(pairs)
        target = int(self.sampling[n]["target"])
        return TokenLogprobs(
            token=int(result["token"]) if target < 0 else target,
            logprob=float(result["logprob"]),
            rank=int(result["rank"]),
            top=likeliest,
        )


class ListedTokens:
    """Log probabilities of the tokens that sequences list, in the rows that they sample from."""

    def __init__(self, states: Sequence[RequestState], step_rows: Ints, *, first: int) -> None:
        """`first`: how many requests of the step come before these."""
        self.requests: list[SamplingRequests] = []
        self._places: dict[int, range] = {}
        for n, state in enumerate(states):
            listed = state.sampling.logprob_token_ids
            if listed:
                targets = np.array(listed, dtype=np.int64)
                rows = np.full(len(listed), step_rows[n], dtype=np.int64)
                self.requests.append(gather_logprobs(state, rows, targets, 0))
                self._places[n] = range(first, first + len(listed))
                first += len(listed)

    def logprobs(self, output: SamplerOutput, n: int) -> TokenLogprobs | None:
        """Of the n-th sample, as `SamplerOutput.logprobs` but with what its sequence lists."""
        position, places = output.logprobs(n), self._places.get(n)
        if position is None or places is None:
            return position
        found = (output.logprobs(place) for place in places)
        return replace(position, top=tuple((f.token, f.logprob) for f in found if f is not None))
