"""How tokens are asked of the native kernels, and what their answers mean.

What stays the same for a sequence is written into a record once, when it enters; a step copies the
records of its sequences and fills in where they are now. Which tokens are ruled out by what was
generated is worked out here; all other steps of sampling are the kernels' (see `sampling` for the
definition). Knows no model, no blocks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np
import numpy.typing as npt

from headway.errors import InvalidRequest
from headway.native import abi
from headway.ops.native.weights import address
from headway.runner.batch import Ints, RequestState, bad_endings, held_stops
from headway.types import TokenLogprobs

Records = npt.NDArray[Any]
"""An array of `abi.Sampling` or `abi.Choice`."""

_SAMPLING = np.dtype(abi.HwSampling)
_CHOICE = np.dtype(abi.HwChoice)


class SamplingConstants:
    """A record for each row of `Rows`, and the lists that the records point at."""

    def __init__(self, *, vocabulary: int) -> None:
        self._vocabulary = vocabulary
        self._records: Records = np.zeros(1, dtype=_SAMPLING)
        self._lists: dict[int, tuple[npt.NDArray[Any], ...]] = {}
        self._banning: set[int] = set()

    def enter(self, row: RequestState) -> None:
        """Note a sequence; raises `InvalidRequest` for a token that the model does not have."""
        sampling = row.sampling
        allowed = np.array(sampling.allowed_token_ids or (), dtype=np.int64)
        biased = np.array([token for token, _ in sampling.logit_bias], dtype=np.int64)
        amounts = np.array([amount for _, amount in sampling.logit_bias], dtype=np.float32)
        banned = [*sampling.stop_token_ids, *chain.from_iterable(sampling.bad_words)]
        for listed in (row.tokens[: row.length], allowed, biased, np.array(banned, np.int64)):
            self._check(listed)
        while len(self._records) <= row.index:
            self._records = np.concatenate((self._records, np.zeros_like(self._records)))
        self._lists[row.index] = (row.tokens, allowed, biased, amounts)
        record = self._records[row.index : row.index + 1]
        record["target"] = -1
        record["tokens"], record["prompt_len"] = address(row.tokens), row.prompt_len
        record["allowed"] = address(allowed)
        record["num_allowed"] = -1 if sampling.allowed_token_ids is None else len(allowed)
        record["bias_tokens"], record["bias_values"] = address(biased), address(amounts)
        record["num_bias"] = len(biased)
        record["logprobs"] = -1 if sampling.logprobs is None else sampling.logprobs
        record["plain"] = row.plain
        # Whatever passes the vocabulary means all of it.
        record["top_k"] = min(sampling.top_k, self._vocabulary)
        for name in ("seed", "temperature", "top_p", "min_p"):
            record[name] = getattr(sampling, name)
        for name in ("repetition_penalty", "frequency_penalty", "presence_penalty"):
            record[name] = getattr(sampling, name)
        if sampling.bad_words or sampling.min_tokens:
            self._banning.add(row.index)
        else:
            self._banning.discard(row.index)

    def ask(self, rows: Sequence[RequestState], places: Ints) -> Asked:
        """The next token of each row, from the hidden state at its place in the step."""
        indexes = [row.index for row in rows]
        records = self._records[indexes]
        records["row"] = places
        records["position"] = records["num_tokens"] = [row.length for row in rows]
        lists = []
        for n in [n for n, index in enumerate(indexes) if index in self._banning]:
            ask = rows[n].ask()
            banned = np.array(held_stops(ask) + bad_endings(ask), dtype=np.int64)
            records[n]["banned"], records[n]["num_banned"] = address(banned), len(banned)
            lists.append(banned)
        return Asked(records=records, lists=tuple(lists))

    def _check(self, tokens: Ints) -> None:
        """The kernels index memory with tokens, so none may pass that callers overlooked."""
        if len(tokens) and not 0 <= tokens.min() <= tokens.max() < self._vocabulary:
            raise InvalidRequest(
                f"a token is not in [0, {self._vocabulary}), the vocabulary of the model"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What a step asks for, and the lists that its records point at."""

    records: Records
    lists: tuple[Ints, ...] = ()


def describe(row: RequestState, places: Ints, targets: Ints, top: int) -> Asked:
    """Log probabilities of given tokens, and of the `top` likeliest beside them."""
    records = np.zeros(len(targets), dtype=_SAMPLING)
    records["row"], records["target"] = places, targets
    records["tokens"], records["prompt_len"] = address(row.tokens), row.prompt_len
    records["num_tokens"] = records["position"] = row.length
    records["num_allowed"] = -1
    records["top_p"] = records["repetition_penalty"] = 1.0
    records["plain"] = True
    records["logprobs"] = top
    return Asked(records=records, lists=(row.tokens,))


class NativeSampler:
    """Room for the answers to what was asked, and the answers once the step is done."""

    def __init__(self, asked: Sequence[Asked]) -> None:
        parts = [part.records for part in asked]
        self._lists = [part.lists for part in asked]
        self.asked: Records = np.concatenate(parts) if parts else np.zeros(0, dtype=_SAMPLING)
        self.choices: Records = np.zeros(len(self.asked), dtype=_CHOICE)
        self._wanted: list[int] = self.asked["logprobs"].tolist()
        most = max(self._wanted, default=-1)
        if most > 0:
            shape = (len(self.asked), most)
            self._ids = np.zeros(shape, dtype=np.int64)
            self._values = np.zeros(shape, dtype=np.float32)
            step = np.arange(len(self.asked), dtype=np.uint64) * np.uint64(most)
            self.choices["top_tokens"] = address(self._ids) + step * np.uint64(8)
            self.choices["top_logprobs"] = address(self._values) + step * np.uint64(4)

    def tokens(self) -> list[int]:
        found: list[int] = self.choices["token"].tolist()
        return found

    def statuses(self) -> list[int]:
        found: list[int] = self.choices["status"].tolist()
        return found

    def logprobs(self, n: int) -> TokenLogprobs | None:
        """Of the n-th answer, where they were asked for."""
        top = self._wanted[n]
        if top < 0:
            return None
        choice = self.choices[n]
        likeliest: tuple[tuple[int, float], ...] = ()
        if top > 0:
            pairs = zip(self._ids[n, :top].tolist(), self._values[n, :top].tolist(), strict=True)
            likeliest = tuple(pairs)
        target = int(self.asked[n]["target"])
        return TokenLogprobs(
            token=int(choice["token"]) if target < 0 else target,
            logprob=float(choice["logprob"]),
            rank=int(choice["rank"]),
            top=likeliest,
        )
