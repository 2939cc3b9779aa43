"""A runner whose tokens are computable by hand and betray every mistake of a scheduler.

It keeps a store of one number per block and offset. What it stores at a position is a digest of the
token there and of everything stored before it, read through the block table; the next token is a
function of all that. So a wrong block table, a block that is shared too early or overwritten, or a
position that was skipped gives other tokens than `reference`, or an error here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from headway.types import (
    Limits,
    NewSequence,
    PromptLogprobs,
    Sampled,
    Slice,
    StepPlan,
    StepResult,
    TokenLogprobs,
)

VOCABULARY = 50
START = 17


def stored(fold: int, token: int) -> int:
    """What a position stores, given the digest of all positions before it."""
    return hash((fold, token, 7))


def folded(fold: int, value: int) -> int:
    """The digest of all positions up to one that stores `value`."""
    return hash((fold, value))


def next_token(fold: int, seed: int) -> int:
    return hash((fold, seed, 3)) % VOCABULARY


def reference(
    prompt: Sequence[int], *, max_tokens: int, seed: int = 0, stop: tuple[int, ...] = ()
) -> list[int]:
    """The generated tokens of a request that runs alone and undisturbed."""
    fold = START
    for token in prompt:
        fold = folded(fold, stored(fold, token))
    generated: list[int] = []
    while len(generated) < max_tokens:
        token = next_token(fold, seed)
        generated.append(token)
        if token in stop:
            break
        fold = folded(fold, stored(fold, token))
    return generated


@dataclass
class Done:
    """A step that was computed on submission."""

    outcome: StepResult

    def result(self) -> StepResult:
        return self.outcome


@dataclass
class FakeRunner:
    """Checks every plan against the limits and against what it was told before."""

    block_size: int
    limits: Limits
    spoiled: Callable[[NewSequence], bool] = lambda entry: False
    """Whether the logits of a sequence are NaN."""
    store: dict[tuple[int, int], int] = field(default_factory=dict)
    known: dict[int, NewSequence] = field(default_factory=dict)
    tokens: dict[int, list[int]] = field(default_factory=dict)
    plans: list[StepPlan] = field(default_factory=list)
    computed: int = 0

    def submit(self, plan: StepPlan) -> Done:
        self.plans.append(frozen(plan))
        for seq in plan.ended:
            del self.known[seq], self.tokens[seq]
        for entry in plan.entries:
            assert entry.seq not in self.known, "entered twice"
            self.known[entry.seq] = entry
            self.tokens[entry.seq] = list(entry.tokens)
        self._check_limits(plan)
        written: dict[tuple[int, int], int] = {}
        sampled = []
        prompts = []
        for piece in plan.slices:
            fold = self._compute(piece, written)
            prompts += self._prompt_logprobs(piece)
            if piece.sample:
                sampled.append(self._sample(piece.seq, fold))
        self.store.update(written)
        result = StepResult(step=plan.step, sampled=sampled, prompt_logprobs=prompts, seconds=0.5)
        return Done(result)

    def _check_limits(self, plan: StepPlan) -> None:
        assert plan.step == len(self.plans)
        assert 1 <= len(plan.slices) <= self.limits.max_num_seqs
        assert len({piece.seq for piece in plan.slices}) == len(plan.slices)
        assert sum(len(piece.tokens) for piece in plan.slices) <= self.limits.max_num_batched_tokens
        partial = sum(not piece.sample for piece in plan.slices)
        assert partial <= self.limits.max_num_partial_prefills

    def _compute(self, piece: Slice, written: dict[tuple[int, int], int]) -> int:
        """Store the slice; other slices of the step see it only in the next one."""
        tokens = self.tokens[piece.seq]
        end = piece.start + len(piece.tokens)
        assert len(piece.tokens) > 0
        assert list(piece.tokens) == tokens[piece.start : end], "other tokens than were known"
        assert piece.sample == (end == len(tokens)), "samples exactly after the last known token"
        assert len(set(piece.blocks)) == len(piece.blocks)
        fold = START
        for position in range(piece.start):
            fold = folded(fold, self.store[self._slot(piece, position)])
        for position, token in enumerate(piece.tokens, piece.start):
            slot = self._slot(piece, position)
            assert slot not in written, "two sequences write one slot"
            written[slot] = stored(fold, token)
            fold = folded(fold, written[slot])
        self.computed += len(piece.tokens)
        return fold

    def _prompt_logprobs(self, piece: Slice) -> list[PromptLogprobs]:
        """Each computed position says how likely the prompt's next token was: here, always 1."""
        entry = self.known[piece.seq]
        if entry.sampling.prompt_logprobs is None:
            return []
        start = piece.start + 1
        said = entry.tokens[start : min(start + len(piece.tokens), entry.prompt_len)]
        if not said:
            return []
        logprobs = tuple(TokenLogprobs(token=token, logprob=0.0, rank=1) for token in said)
        return [PromptLogprobs(seq=piece.seq, start=start, logprobs=logprobs)]

    def _slot(self, piece: Slice, position: int) -> tuple[int, int]:
        return piece.blocks[position // self.block_size], position % self.block_size

    def _sample(self, seq: int, fold: int) -> Sampled:
        entry = self.known[seq]
        if self.spoiled(entry):
            return Sampled(seq=seq, token=0, error="logits are not finite")
        token = next_token(fold, entry.sampling.seed)
        self.tokens[seq].append(token)
        return Sampled(seq=seq, token=token)


def frozen(plan: StepPlan) -> StepPlan:
    """A copy that does not change when the scheduler goes on."""
    slices = [
        Slice(
            seq=piece.seq,
            start=piece.start,
            tokens=tuple(piece.tokens),
            blocks=tuple(piece.blocks),
            sample=piece.sample,
        )
        for piece in plan.slices
    ]
    return StepPlan(
        step=plan.step, slices=slices, entries=tuple(plan.entries), ended=tuple(plan.ended)
    )
