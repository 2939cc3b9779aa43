"""Computes steps with the native kernels: one call into the library for each.

All that happens here is bookkeeping: a plan becomes arrays that the library reads, and its choices
become a result. Knows no queue, no policy and no request; imports no tensor library.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from itertools import chain

import numpy as np

from headway.native import abi
from headway.ops.native import CompiledProgram, Seconds, no_seconds
from headway.ops.native.weights import address
from headway.ops.protocol import Floats
from headway.runner.batch import NOT_FINITE, NOTHING_LEFT, Computed, InputBatch, Ints, RequestState
from headway.runner.sampling.native import NativeSampler, SamplingConstants, describe
from headway.types import Limits, PromptLogprobs, Sampled, Slice, StepPlan, StepResult

_ERRORS: dict[int, str] = {
    abi.HwStatus.NOT_FINITE: NOT_FINITE,
    abi.HwStatus.NOTHING_LEFT: NOTHING_LEFT,
}


class NativeRunner:
    """A `Runner` of one program; `submit` returns when the step is computed.

    A sequence's blocks may only be added to while it stays; whoever wants others ends it first.
    """

    def __init__(
        self, *, program: CompiledProgram, vocabulary: int, limits: Limits, block_size: int
    ) -> None:
        self._program = program
        self._rows = InputBatch(
            max_seqs=limits.max_num_seqs, max_len=limits.max_model_len, block_size=block_size
        )
        self._constants = SamplingConstants(vocabulary=vocabulary)
        self._seconds: Seconds | None = None
        self._vocabulary = vocabulary

    def submit(self, plan: StepPlan) -> Computed:
        """Compute a step. A sequence whose scores are not finite gets an error, the rest goes on.

        Raises `MemoryError` where the step's rows do not fit.
        """
        began = time.perf_counter()
        for seq in plan.ended:
            self._rows.end(seq)
        for entry in plan.entries:
            self._constants.enter(self._rows.enter(entry))
        sampled: list[Sampled] = []
        prompts: list[PromptLogprobs] = []
        if plan.slices:
            sampled, prompts = self._compute(plan.slices)
        return Computed(
            answer=StepResult(
                step=plan.step,
                sampled=sampled,
                prompt_logprobs=prompts,
                seconds=time.perf_counter() - began,
            )
        )

    def measure(self) -> Seconds:
        """From now on, every step adds the seconds of each kind of operation to what this gives.

        The entries are those of `abi.Kind`, and the selection of tokens as the last.
        """
        self._seconds = no_seconds()
        return self._seconds

    def scores(self, num_tokens: int) -> Floats:
        """Raw scores of every token of the last step, [num_tokens, vocabulary], to measure."""
        return self._program.scores(num_tokens, self._vocabulary)

    def _compute(self, slices: Sequence[Slice]) -> tuple[list[Sampled], list[PromptLogprobs]]:
        rows = self._rows.of(slices)
        counts = np.array([len(part.tokens) for part in slices], dtype=np.int64)
        ends = counts.cumsum()
        asking = [n for n, part in enumerate(slices) if part.sample]
        asked = [self._constants.ask([rows[n] for n in asking], ends[asking] - 1)] if asking else []
        spans = _prompt_spans(slices, rows, ends)
        asked += (describe(rows[n], places, targets, top) for n, places, targets, top in spans)
        choices = NativeSampler(asked)
        self._run(slices, rows, counts, choices)
        sampled = _sampled(choices, [(slices[n].seq, rows[n]) for n in asking])
        prompts, done = [], len(asking)
        for n, _, targets, _ in spans:
            found = (choices.logprobs(done + m) for m in range(len(targets)))
            prompts.append(
                PromptLogprobs(
                    seq=slices[n].seq,
                    start=slices[n].start + 1,
                    logprobs=tuple(each for each in found if each is not None),
                )
            )
            done += len(targets)
        return sampled, prompts

    def _run(
        self,
        slices: Sequence[Slice],
        rows: Sequence[RequestState],
        counts: Ints,
        choices: NativeSampler,
    ) -> None:
        """One call into the library; marks the sequences that came out broken."""
        flat = chain.from_iterable(part.tokens for part in slices)
        tokens = np.fromiter(flat, dtype=np.int64, count=int(counts.sum()))
        starts = np.array([part.start for part in slices], dtype=np.int64)
        tables = np.ascontiguousarray(self._rows.tables(rows))
        broken = np.zeros(len(slices), dtype=np.uint8)
        self._program.run(
            abi.HwStep(
                num_tokens=len(tokens),
                num_slices=len(slices),
                num_asked=len(choices.asked),
                tokens=address(tokens),
                starts=address(starts),
                counts=address(counts),
                tables=address(tables),
                table_width=tables.shape[1],
                asked=address(choices.asked),
                choices=address(choices.choices),
                broken=address(broken),
            ),
            self._seconds,
        )
        for n in broken.nonzero()[0].tolist():
            rows[n].broken = True


Span = tuple[int, Ints, Ints, int]
"""A slice, rows of the step, the prompt tokens that follow them, how many others to report."""


def _prompt_spans(slices: Sequence[Slice], rows: Sequence[RequestState], ends: Ints) -> list[Span]:
    """The prompt tokens of this step whose log probabilities somebody wants."""
    found: list[Span] = []
    for n, (part, row) in enumerate(zip(slices, rows, strict=True)):
        top = row.sampling.prompt_logprobs
        if top is None:
            continue
        last = min(part.start + len(part.tokens), row.prompt_len - 1)
        if last > part.start:
            first = int(ends[n]) - len(part.tokens)
            places = np.arange(first, first + last - part.start, dtype=np.int64)
            found.append((n, places, row.tokens[part.start + 1 : last + 1], top))
    return found


def _sampled(choices: NativeSampler, asking: Sequence[tuple[int, RequestState]]) -> list[Sampled]:
    """The tokens that came first among what was asked, or an error of their sequence."""
    tokens, statuses = choices.tokens(), choices.statuses()
    found = []
    for n, (seq, row) in enumerate(asking):
        error = NOT_FINITE if row.broken else _ERRORS.get(statuses[n])
        if error is None:
            found.append(Sampled(seq=seq, token=tokens[n], logprobs=choices.logprobs(n)))
        else:
            found.append(Sampled(seq=seq, token=0, error=error))
    return found
