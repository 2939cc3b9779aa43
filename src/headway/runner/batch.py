"""What a runner remembers of each sequence between steps, and what a step asks of sampling.

A plan names its sequences by number and sends only what is new. `InputBatch` holds the rest: for
each sequence a `RequestState` (all its tokens so far, how it samples) and a row of the block table.
A sequence's row is taken when it enters and given back when it ends; its blocks may only be added
to in between, so a step copies new blocks alone. `SamplingMetadata` is what choosing a sequence's
next token depends on. Shared by all runners; knows no tensors.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from headway.grammar import Matcher, ThinkingWatch
from headway.ops.protocol import Ints
from headway.types import NewSequence, ResolvedSampling, Sampled, Slice, TokenLogprobs
from headway.types.sampling import ALL_TOKENS

NOT_FINITE = "the model's logits were not finite"

Mask = npt.NDArray[np.uint32]
"""[ceil(vocabulary / 32)]: bit t of word w is that of token 32 w + t."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NextTokens:
    """The tokens that a sequence may get next, a bit each (see `hw_sampling`)."""

    mask: Mask
    forced: bool = False
    """There is one alone, which comes whatever else the request asks of sampling."""


class BadWords:
    """Bad words, arranged so that a step costs a look-up for each length that occurs among them."""

    __slots__ = ("_banned", "_lengths")

    def __init__(self, words: Iterable[Sequence[int]]) -> None:
        self._banned: dict[tuple[int, ...], list[int]] = {}
        """The last tokens of words, by the tokens before."""
        for *head, last in words:
            self._banned.setdefault(tuple(head), []).append(last)
        self._lengths = sorted(set(map(len, self._banned)))

    def ends(self, generated: Ints) -> list[int]:
        """The last token of each bad word whose other tokens were just generated."""
        found: list[int] = []
        if self._lengths:
            longest = min(self._lengths[-1], len(generated))
            tail = generated[len(generated) - longest :].tolist()
            for length in self._lengths:
                if length <= longest:
                    found += self._banned.get(tuple(tail[longest - length :]), ())
        return found


@lru_cache(maxsize=32)
def arranged(words: tuple[tuple[int, ...], ...]) -> BadWords:
    """As `BadWords`; sequences with the same bad words, such as those of a group, share them."""
    return BadWords(words)


@dataclass(frozen=True, slots=True, kw_only=True)
class SamplingMetadata:
    """One token to be sampled: how, after which tokens, and at which position."""

    sampling: ResolvedSampling
    tokens: Ints
    """All tokens so far; `tokens[:prompt_len]` are the prompt."""
    prompt_len: int
    bad_words: BadWords
    """Those of `sampling`."""
    greedy: bool
    """The token is the argmax of the model's own logits (see `is_greedy`)."""
    mask: Mask | None = None
    """The tokens that may come next, a bit each; None where all may."""

    @property
    def position(self) -> int:
        """Of the token to be sampled, counted from the prompt's first."""
        return len(self.tokens)

    @property
    def generated(self) -> Ints:
        return self.tokens[self.prompt_len :]

    @property
    def unpenalised(self) -> int:
        """How many of the first tokens penalties do not look at."""
        return first_penalised(self.sampling, len(self.tokens))


def first_penalised(sampling: ResolvedSampling, length: int) -> int:
    """The first of so many tokens that penalties look at."""
    last = sampling.repeat_last_n
    return 0 if last == ALL_TOKENS else max(0, length - last)


def is_greedy(sampling: ResolvedSampling) -> bool:
    """Whether the token is simply the argmax of the logits: no step of sampling changes them.

    Temperature 0 alone does not say so: penalties and banned tokens change the logits before.
    """
    return not (
        sampling.temperature != 0.0
        or sampling.structured_outputs is not None
        or sampling.thinking_token_budget is not None
        or sampling.allowed_token_ids is not None
        or sampling.bad_words
        or sampling.min_tokens > 0
        or sampling.logit_bias
        or sampling.repetition_penalty != 1.0
        or sampling.frequency_penalty != 0.0
        or sampling.presence_penalty != 0.0
    )


def bad_word_ends(metadata: SamplingMetadata) -> list[int]:
    """The last token of each bad word whose other tokens were just generated."""
    return metadata.bad_words.ends(metadata.generated)


def early_stops(metadata: SamplingMetadata) -> list[int]:
    """The stop tokens, until `min_tokens` have been generated or a grammar has nothing else."""
    stops = metadata.sampling.stop_token_ids
    if len(metadata.generated) >= metadata.sampling.min_tokens:
        return []
    if metadata.mask is not None and _has_only(metadata.mask, stops):
        return []
    return list(stops)


def _has_only(mask: Mask, tokens: Sequence[int]) -> bool:
    """Whether no bits but those of these tokens are set."""
    rest = mask.copy()
    for token in tokens:
        rest[token // 32] &= ~np.uint32(1 << token % 32)
    return not rest.any()


class RequestState:
    """One sequence: its row of the block table, its tokens so far, how it samples."""

    __slots__ = (
        "bad_words",
        "greedy",
        "has_nan",
        "hidden",
        "length",
        "matcher",
        "prompt_len",
        "row",
        "sampling",
        "thinking",
        "tokens",
    )

    def __init__(self, row: int, new: NewSequence, capacity: int) -> None:
        self.row = row
        self.sampling = new.sampling
        self.bad_words = arranged(new.sampling.bad_words)
        self.prompt_len = new.prompt_len
        self.hidden = new.hidden
        self.greedy = is_greedy(new.sampling)
        self.length = len(new.tokens)
        self.tokens: Ints = np.empty(max(capacity, self.length) + 1, dtype=np.int64)
        """[capacity + 1] token ids, of which the first `length` are known."""
        self.tokens[: self.length] = new.tokens
        self.has_nan = False
        """Some token's hidden state was not finite, so nothing after it can be trusted."""
        self.matcher: Matcher | None = None
        """Where the generated tokens stand in the grammar, of a sequence that has one."""
        self.thinking: ThinkingWatch | None = None
        """Where they stand in the reasoning, of a sequence that has a budget for it."""

    def extend(self, part: Slice) -> None:
        """Take in the tokens of a slice that are not known yet, with its drafts behind them.

        One that is sampled after ends with the last known token: what was known beyond it, or in
        place of its tokens, is not any more.
        """
        end = part.start + len(part.tokens)
        if end > self.length or (part.outputs and not self.hidden):
            self.tokens[part.start : end] = part.tokens
            self.length = end - self.num_drafts(part)

    def num_drafts(self, part: Slice) -> int:
        """How many of the last tokens of a slice of this sequence are drafts."""
        return part.outputs - 1 if part.outputs > 1 and not self.hidden else 0

    @property
    def error(self) -> str | None:
        """Why no token of this sequence can be sampled any more."""
        if self.has_nan:
            return NOT_FINITE
        return self.matcher.error if self.matcher is not None else None

    def sampling_metadata(
        self, ahead: int = 0, allowed: NextTokens | None = None
    ) -> SamplingMetadata:
        """What sampling the token after those known and `ahead` drafts depends on."""
        sampling, bad_words = self.sampling, self.bad_words
        if allowed is not None and allowed.forced:
            sampling = replace(sampling, allowed_token_ids=None, bad_words=(), min_tokens=0)
            bad_words = arranged(())
        return SamplingMetadata(
            sampling=sampling,
            tokens=self.tokens[: self.length + ahead],
            prompt_len=self.prompt_len,
            bad_words=bad_words,
            greedy=self.greedy,
            mask=None if allowed is None else allowed.mask,
        )


class InputBatch:
    """All sequences that have entered and not ended: states by number, and their block tables.

    The block tables are one array [max_seqs, blocks of the longest sequence] of block ids, of which
    a sequence uses one row, from the left. It doubles where more sequences enter.
    """

    def __init__(self, *, max_seqs: int, max_len: int, block_size: int) -> None:
        self._max_len = max_len
        width = -(-max_len // block_size)
        self._block_tables: Ints = np.zeros((max_seqs, width), dtype=np.int64)
        self._num_blocks: Ints = np.zeros(max_seqs, dtype=np.int64)
        """[max_seqs] how many entries of each row are filled."""
        self._free_rows = list(range(max_seqs - 1, -1, -1))
        self._states: dict[int, RequestState] = {}

    def add(self, new: NewSequence) -> RequestState:
        """Take in a sequence."""
        if not self._free_rows:
            self._grow()
        state = RequestState(self._free_rows.pop(), new, self._max_len)
        self._num_blocks[state.row] = 0
        self._states[new.seq] = state
        return state

    def remove(self, seq: int) -> None:
        """Forget a sequence; one that never entered is none."""
        state = self._states.pop(seq, None)
        if state is not None:
            self._free_rows.append(state.row)

    def update(self, slices: Sequence[Slice]) -> list[RequestState]:
        """The states of a step's sequences, brought up to date with their slices."""
        states = [self._states[part.seq] for part in slices]
        rows = [state.row for state in states]
        lengths = np.array([len(part.blocks) for part in slices])
        for n in np.flatnonzero(self._num_blocks[rows] < lengths).tolist():
            row, blocks = rows[n], slices[n].blocks
            known = self._num_blocks[row]
            self._block_tables[row, known : len(blocks)] = blocks[known:]
            self._num_blocks[row] = len(blocks)
        for state, part in zip(states, slices, strict=True):
            state.extend(part)
        return states

    def block_tables(self, states: Sequence[RequestState]) -> Ints:
        """Block ids [states, longest of their tables]; what follows a table's end is no block."""
        rows = [state.row for state in states]
        width = int(self._num_blocks[rows].max())
        return self._block_tables[rows, :width]

    def _grow(self) -> None:
        size = len(self._block_tables)
        self._block_tables = np.concatenate((self._block_tables, np.zeros_like(self._block_tables)))
        self._num_blocks = np.concatenate((self._num_blocks, np.zeros_like(self._num_blocks)))
        self._free_rows.extend(range(2 * size - 1, size - 1, -1))


def token_outputs(
    slices: Sequence[Slice], states: Sequence[RequestState], ends: Ints
) -> tuple[Ints, Ints, Ints]:
    """Of every token to sample: its slice, its row in the step, and the drafts before it.

    `ends` has the row of the step after each slice. A slice's tokens come one after the other.
    """
    counts = np.array(
        [0 if state.hidden else part.outputs for part, state in zip(slices, states, strict=True)],
        dtype=np.int64,
    )
    which = np.repeat(np.arange(len(counts)), counts)
    ahead = np.arange(len(which)) - (counts.cumsum() - counts)[which]
    return which, ends[which] - counts[which] + ahead, ahead


def accept(
    part: Slice,
    first: int,
    tokens: Sequence[int],
    errors: Sequence[str | None],
    logprobs: Callable[[int], TokenLogprobs | None],
) -> Sampled:
    """What a slice gave, of whose outputs the first is number `first` of all.

    A token after a draft counts if that draft is what was sampled in its place.
    """
    if errors[first] is not None:
        return Sampled(seq=part.seq, error=errors[first])
    end = first + 1
    if part.outputs == 1:  # nearly always, and then not worth a generator
        alone = logprobs(first)
        return Sampled(
            seq=part.seq, tokens=(tokens[first],), logprobs=() if alone is None else (alone,)
        )
    for draft in part.tokens[1 - part.outputs :]:
        if draft != tokens[end - 1] or errors[end] is not None:
            break
        end += 1
    found = (logprobs(n) for n in range(first, end))
    return Sampled(
        seq=part.seq,
        tokens=tuple(tokens[first:end]),
        logprobs=tuple(each for each in found if each is not None),
    )
