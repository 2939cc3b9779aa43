"""A plain loop that makes step plans, for tests of the runner without a scheduler."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from headway.types import (
    HiddenStates,
    NewSequence,
    PromptLogprobs,
    ResolvedSampling,
    Sampled,
    Slice,
    StepPlan,
)
from headway.types.step import Runner


@dataclass
class Live:
    """One sequence of the driver: its tokens, how many are computed, its blocks."""

    seq: int
    tokens: list[int]
    prompt_len: int
    sampling: ResolvedSampling
    blocks: list[int] = field(default_factory=list)
    computed: int = 0
    sampled: list[Sampled] = field(default_factory=list)
    prompt_logprobs: list[PromptLogprobs] = field(default_factory=list)
    hidden: list[HiddenStates] = field(default_factory=list)

    @property
    def generated(self) -> list[int]:
        return self.tokens[self.prompt_len :]


class Driver:
    """Hands out blocks in order and never takes one back."""

    def __init__(self, runner: Runner, block_size: int) -> None:
        self.runner = runner
        self.block_size = block_size
        self.next_block = 0
        self.next_seq = 0
        self.step = 0
        self.ended: list[int] = []
        self.entries: list[NewSequence] = []

    def add(
        self,
        prompt: Sequence[int],
        sampling: ResolvedSampling,
        *,
        blocks: Sequence[int] = (),
        hidden: bool = False,
    ) -> Live:
        """Enter a sequence; `blocks` are full ones computed before that hold its first tokens."""
        live = Live(self.next_seq, list(prompt), len(prompt), sampling, list(blocks))
        live.computed = len(blocks) * self.block_size
        self.next_seq += 1
        self._enter(live, hidden=hidden)
        return live

    def preempt(self, live: Live) -> None:
        """Take a sequence's blocks and start it over under its next step."""
        self.ended.append(live.seq)
        live.blocks, live.computed = [], 0
        self._enter(live)

    def run(self, parts: Sequence[tuple[Live, int]], drafts: Sequence[Sequence[int]] = ()) -> None:
        """One step: so many tokens of each sequence (no more than it has left), and its drafts."""
        drafts = drafts or [()] * len(parts)
        slices = [
            self._slice(live, count, more)
            for (live, count), more in zip(parts, drafts, strict=True)
        ]
        plan = StepPlan(step=self.step, slices=slices, new=self.entries, ended=self.ended)
        self.step, self.entries, self.ended = self.step + 1, [], []
        result = self.runner.compute(plan)
        assert result.step == plan.step
        by_seq = {live.seq: live for live, _ in parts}
        for part, more in zip(slices, drafts, strict=True):
            by_seq[part.seq].computed += len(part.tokens) - len(more)
        told = [each.seq for each in result.sampled] + [each.seq for each in result.hidden]
        assert sorted(told) == sorted(s.seq for s in slices if s.outputs)
        for each in result.sampled:
            by_seq[each.seq].sampled.append(each)
            by_seq[each.seq].tokens += each.tokens or (0,)
            by_seq[each.seq].computed += max(0, len(each.tokens) - 1)
        for states in result.hidden:
            by_seq[states.seq].hidden.append(states)
        for found in result.prompt_logprobs:
            by_seq[found.seq].prompt_logprobs.append(found)

    def finish(self, lives: Sequence[Live], *, chunk: int = 10**9) -> None:
        """Run all until each has its `max_tokens`."""
        while left := [v for v in lives if len(v.generated) < v.sampling.max_tokens]:
            self.run([(live, chunk) for live in left])

    def _enter(self, live: Live, *, hidden: bool = False) -> None:
        self.entries.append(
            NewSequence(
                seq=live.seq,
                tokens=tuple(live.tokens),
                prompt_len=live.prompt_len,
                sampling=live.sampling,
                hidden=hidden,
            )
        )

    def _slice(self, live: Live, count: int, drafts: Sequence[int]) -> Slice:
        count = min(count, len(live.tokens) - live.computed)
        end = live.computed + count
        while len(live.blocks) * self.block_size < end + len(drafts):
            live.blocks.append(self.next_block)
            self.next_block += 1
        return Slice(
            seq=live.seq,
            start=live.computed,
            tokens=(*live.tokens[live.computed : end], *drafts),
            blocks=tuple(live.blocks),
            outputs=int(end == len(live.tokens)) + len(drafts),
        )
