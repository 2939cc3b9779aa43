"""A runner that samples from what its blocks hold, as `tests.scheduling.fake_runner` samples.

It keeps its sequences as the real runners do. Whatever was not stored, was overwritten, or is known
of a sequence though it was taken back, gives other tokens than `reference`, or an error here.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from headway.runner.batch import InputBatch
from headway.types import Limits, NewSequence, Sampled, Slice, StepPlan, StepResult
from tests.scheduling.fake_runner import reference


@dataclass
class ReadingRunner:
    """`spoiled` says of which sequences the logits are not finite."""

    limits: Limits
    block_size: int = 4
    spoiled: Callable[[NewSequence], bool] = lambda entry: False
    plans: list[StepPlan] = field(default_factory=list)
    known: dict[int, NewSequence] = field(default_factory=dict)
    stored: dict[tuple[int, int], int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._batch = InputBatch(
            max_seqs=self.limits.max_num_seqs,
            max_len=self.limits.max_model_len,
            block_size=self.block_size,
        )

    def compute(self, plan: StepPlan) -> StepResult:
        self.plans.append(plan)
        for number in plan.ended:
            del self.known[number]
            self._batch.remove(number)
        for entry in plan.new:
            assert entry.seq not in self.known, "entered twice"
            self.known[entry.seq] = entry
            self._batch.add(entry)
        assert 0 < len(plan.slices) <= self.limits.max_num_seqs
        assert sum(len(part.tokens) for part in plan.slices) <= self.limits.max_num_batched_tokens
        states = self._batch.update(plan.slices)
        self._store(plan)
        sampled = []
        for part, state in zip(plan.slices, states, strict=True):
            end = part.start + len(part.tokens)
            assert end <= self.limits.max_model_len
            assert part.outputs in (0, 1), "it is given no drafts to verify"
            if part.outputs:
                assert state.length == end, "what it samples after is all that it knows"
                assert state.tokens[:end].tolist() == self._read(part, end)
                sampled.append(self._sample(part, end))
        return StepResult(step=plan.step, sampled=sampled, seconds=0.25)

    def _store(self, plan: StepPlan) -> None:
        written: set[tuple[int, int]] = set()
        for part in plan.slices:
            assert part.tokens
            for position, token in enumerate(part.tokens, part.start):
                slot = self._slot(part, position)
                assert slot not in written, "two sequences write one slot"
                written.add(slot)
                self.stored[slot] = token

    def _read(self, part: Slice, end: int) -> list[int]:
        return [self.stored[self._slot(part, position)] for position in range(end)]

    def _sample(self, part: Slice, end: int) -> Sampled:
        entry = self.known[part.seq]
        if self.spoiled(entry):
            return Sampled(seq=part.seq, error="logits are not finite")
        tokens = reference(self._read(part, end), max_tokens=1, seed=entry.sampling.seed)
        return Sampled(seq=part.seq, tokens=tuple(tokens))

    def _slot(self, part: Slice, position: int) -> tuple[int, int]:
        return part.blocks[position // self.block_size], position % self.block_size
