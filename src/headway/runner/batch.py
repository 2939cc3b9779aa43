"""What every runner answers with: a step that is done, and the errors of single sequences.

What the sampler is told of one row, and when there is nothing to sample.

Shared by all runners; knows no tensors.

Tokens that must not come next because of what was generated so far.

What the runner remembers of each sequence between steps: its tokens and its block table.

Sequences live in rows of preallocated arrays; a row is taken when a sequence enters and given
back when it ends. A block table only ever grows at its end while its sequence stays, so a step
copies new blocks alone. Knows no tensors.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from headway.types import NewSequence, ResolvedSampling, Slice, StepResult

NOT_FINITE = "the model's scores were not finite"
NOTHING_LEFT = "the sampling parameters leave no token to choose"


@dataclass(frozen=True, slots=True, kw_only=True)
class Computed:
    """A step that has been computed by the time it is asked for."""

    answer: StepResult

    def result(self) -> StepResult:
        return self.answer


@dataclass(frozen=True, slots=True, kw_only=True)
class SamplingMetadata:
    """One token to be chosen: how, after which tokens, and at which position."""

    sampling: ResolvedSampling
    tokens: npt.NDArray[np.int64]
    """All tokens so far; `tokens[:prompt_len]` are the prompt."""
    prompt_len: int
    plain: bool
    """The highest score wins, unchanged (see `is_plain`)."""

    @property
    def position(self) -> int:
        """Of the token to be chosen, counted from the prompt's first."""
        return len(self.tokens)

    @property
    def generated(self) -> npt.NDArray[np.int64]:
        return self.tokens[self.prompt_len :]


def is_plain(sampling: ResolvedSampling) -> bool:
    """Whether the token is simply that of the model's highest score."""
    return not (
        sampling.temperature != 0.0
        or sampling.allowed_token_ids is not None
        or sampling.bad_words
        or sampling.min_tokens > 0
        or sampling.logit_bias
        or sampling.repetition_penalty != 1.0
        or sampling.frequency_penalty != 0.0
        or sampling.presence_penalty != 0.0
    )


def bad_endings(ask: SamplingMetadata) -> list[int]:
    """The last token of each bad word whose other tokens were just generated."""
    generated = ask.generated
    found = []
    for *head, last in ask.sampling.bad_words:
        size = len(head)
        if size <= len(generated) and np.array_equal(generated[len(generated) - size :], head):
            found.append(last)
    return found


def held_stops(ask: SamplingMetadata) -> list[int]:
    """The stop tokens, until `min_tokens` have been generated."""
    held = len(ask.generated) < ask.sampling.min_tokens
    return list(ask.sampling.stop_token_ids) if held else []


Ints = npt.NDArray[np.int64]


class RequestState:
    """One sequence: where its block table is, its tokens so far, how it samples."""

    __slots__ = ("broken", "index", "length", "plain", "prompt_len", "sampling", "tokens")

    def __init__(self, index: int, entry: NewSequence, capacity: int) -> None:
        self.index = index
        self.sampling = entry.sampling
        self.prompt_len = entry.prompt_len
        self.plain = is_plain(entry.sampling)
        self.length = len(entry.tokens)
        self.tokens: Ints = np.empty(max(capacity, self.length) + 1, dtype=np.int64)
        self.tokens[: self.length] = entry.tokens
        self.broken = False
        """Some token's hidden state was not finite, so nothing after it can be trusted."""

    def extend(self, part: Slice) -> None:
        """Take in the tokens of a slice that are not known yet."""
        end = part.start + len(part.tokens)
        if end > self.length:
            self.tokens[self.length : end] = part.tokens[self.length - part.start :]
            self.length = end

    def ask(self) -> SamplingMetadata:
        """What the sampler must know to choose the token after the last known one."""
        return SamplingMetadata(
            sampling=self.sampling,
            tokens=self.tokens[: self.length],
            prompt_len=self.prompt_len,
            plain=self.plain,
        )


class InputBatch:
    """All sequences that have entered and not ended."""

    def __init__(self, *, max_seqs: int, max_len: int, block_size: int) -> None:
        self._max_len = max_len
        self._width = -(-max_len // block_size)
        self._tables: Ints = np.zeros((max_seqs, self._width), dtype=np.int64)
        self._filled: Ints = np.zeros(max_seqs, dtype=np.int64)
        self._free = list(range(max_seqs - 1, -1, -1))
        self._rows: dict[int, RequestState] = {}

    def __len__(self) -> int:
        return len(self._rows)

    def enter(self, entry: NewSequence) -> RequestState:
        if not self._free:
            self._grow()
        row = RequestState(self._free.pop(), entry, self._max_len)
        self._filled[row.index] = 0
        self._rows[entry.seq] = row
        return row

    def end(self, seq: int) -> None:
        """Forget a sequence; one that never entered is none."""
        row = self._rows.pop(seq, None)
        if row is not None:
            self._free.append(row.index)

    def of(self, slices: Sequence[Slice]) -> list[RequestState]:
        """The rows of a step's slices, brought up to date with them."""
        rows = [self._rows[part.seq] for part in slices]
        indexes = [row.index for row in rows]
        lengths = np.array([len(part.blocks) for part in slices])
        for n in np.flatnonzero(self._filled[indexes] < lengths).tolist():
            index, blocks = indexes[n], slices[n].blocks
            known = self._filled[index]
            self._tables[index, known : len(blocks)] = blocks[known:]
            self._filled[index] = len(blocks)
        for row, part in zip(rows, slices, strict=True):
            row.extend(part)
        return rows

    def tables(self, rows: Sequence[RequestState]) -> Ints:
        """The block tables of rows, [rows, longest] with anything after their own ends."""
        indexes = [row.index for row in rows]
        width = int(self._filled[indexes].max())
        return self._tables[indexes, :width]

    def _grow(self) -> None:
        size = len(self._tables)
        self._tables = np.concatenate((self._tables, np.zeros_like(self._tables)))
        self._filled = np.concatenate((self._filled, np.zeros_like(self._filled)))
        self._free.extend(range(2 * size - 1, size - 1, -1))
