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
    recomputed: int = 0
    """Part of `computed`: what had been computed before, and a preemption threw away."""
    hit_later: int = 0
    """Tokens that a preempted sequence had not computed before, and found in the prefix cache."""
    furthest: dict[int, int] = field(default_factory=dict)
    """Most tokens that were ever computed of each sequence, without drafts that were wrong."""

    def compute(self, plan: StepPlan) -> StepResult:
        self.plans.append(frozen(plan))
        for seq in plan.ended:
            del self.known[seq], self.tokens[seq]
        for entry in plan.new:
            assert entry.seq not in self.known, "entered twice"
            self.known[entry.seq] = entry
            self.tokens[entry.seq] = list(entry.tokens)
        self._check_limits(plan)
        written: dict[tuple[int, int], int] = {}
        sampled = []
        prompts = []
        for piece in plan.slices:
            folds = self._compute(piece, written)
            prompts += self._prompt_logprobs(piece)
            accepted = 0
            if piece.outputs:
                sampled.append(self._sample(piece, folds))
                accepted = len(sampled[-1].tokens) - 1
            self._count(piece, len(piece.tokens) - max(0, piece.outputs - 1) + accepted)
        self.store.update(written)
        return StepResult(step=plan.step, sampled=sampled, prompt_logprobs=prompts, seconds=0.5)

    def _count(self, piece: Slice, kept: int) -> None:
        self.computed += len(piece.tokens)
        before, end = self.furthest.get(piece.seq, piece.start), piece.start + kept
        self.hit_later += max(0, piece.start - before)
        self.recomputed += max(0, min(end, before) - piece.start)
        self.furthest[piece.seq] = max(before, end)

    def _check_limits(self, plan: StepPlan) -> None:
        assert plan.step == len(self.plans)
        assert 1 <= len(plan.slices) <= self.limits.max_num_seqs
        assert len({piece.seq for piece in plan.slices}) == len(plan.slices)
        assert sum(len(piece.tokens) for piece in plan.slices) <= self.limits.max_num_batched_tokens
        partial = sum(not piece.outputs for piece in plan.slices)
        assert partial <= self.limits.max_num_partial_prefills

    def _compute(self, piece: Slice, written: dict[tuple[int, int], int]) -> list[int]:
        """Store the slice; other slices of the step see it only in the next one.

        Gives the digests at its outputs.
        """
        tokens = self.tokens[piece.seq]
        known = len(piece.tokens) - max(0, piece.outputs - 1)
        end = piece.start + known
        assert known > 0
        assert list(piece.tokens[:known]) == tokens[piece.start : end], "other tokens than known"
        assert (piece.outputs > 0) == (end == len(tokens)), "samples after the last known token"
        assert len(set(piece.blocks)) == len(piece.blocks)
        fold = START
        for position in range(piece.start):
            fold = folded(fold, self.store[self._slot(piece, position)])
        folds = []
        for position, token in enumerate(piece.tokens, piece.start):
            slot = self._slot(piece, position)
            assert slot not in written, "two sequences write one slot"
            written[slot] = stored(fold, token)
            fold = folded(fold, written[slot])
            folds.append(fold)
        return folds[len(folds) - piece.outputs :]

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

    def _sample(self, piece: Slice, folds: list[int]) -> Sampled:
        entry = self.known[piece.seq]
        if self.spoiled(entry):
            return Sampled(seq=piece.seq, error="logits are not finite")
        tokens = [next_token(folds[0], entry.sampling.seed)]
        drafts = piece.tokens[len(piece.tokens) - piece.outputs + 1 :]
        for draft, fold in zip(drafts, folds[1:], strict=True):
            if draft != tokens[-1]:
                break
            tokens.append(next_token(fold, entry.sampling.seed))
        self.tokens[piece.seq] += tokens
        return Sampled(seq=piece.seq, tokens=tuple(tokens))


def frozen(plan: StepPlan) -> StepPlan:
    """A copy that does not change when the scheduler goes on."""
    slices = [
        Slice(
            seq=piece.seq,
            start=piece.start,
            tokens=tuple(piece.tokens),
            blocks=tuple(piece.blocks),
            outputs=piece.outputs,
        )
        for piece in plan.slices
    ]
    return StepPlan(step=plan.step, slices=slices, new=tuple(plan.new), ended=tuple(plan.ended))
