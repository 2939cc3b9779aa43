"""Compares weight formats of one model token by token: how far their logits are from the first's.

A program of its own (`python -m headway.perf.quality.program`), which `evaluate` starts: it reads a
`QualityComparison` as JSON from standard input, runs the same contexts through every candidate, and
writes a `QualityProgress` as a line of JSON after each. Candidates compute as engines do, in steps
of part of a context. Logits never leave this process, only sums do.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec
import numpy as np

from headway.errors import HeadwayError, InvalidRequest
from headway.ops import Floats, Ints
from headway.perf.quality.evaluate import (
    QualityCandidate,
    QualityComparison,
    QualityProgress,
    Totals,
)
from headway.runner import build_runner
from headway.runner.native import NativeRunner
from headway.types import NewSequence, ResolvedSampling, Slice, StepPlan

STEP_TOKENS = 128
"""Tokens of one step: their logits take 134 MB with a vocabulary of 262,144."""
_ROWS_AT_ONCE = 16


class CandidateRunner:
    """One candidate's runner, which computes one context after the other."""

    def __init__(self, candidate: QualityCandidate) -> None:
        loaded = build_runner(candidate.config, Path(candidate.prepared))
        if not isinstance(loaded.runner, NativeRunner):
            raise InvalidRequest("only the native backend gives all logits", field="backend")
        self._runner = loaded.runner
        self._runner.all_rows = True
        self._blocks = tuple(range(-(-loaded.limits.max_model_len // loaded.block_size)))
        self._seq = 0
        self._tokens: Sequence[int] = ()

    def begin(self, tokens: Sequence[int]) -> None:
        """Start a new context."""
        self._tokens = tokens
        self._seq += 1
        sequence = NewSequence(
            seq=self._seq,
            tokens=tokens,
            prompt_len=len(tokens),
            sampling=ResolvedSampling(max_tokens=1, seed=0),
        )
        ended = [self._seq - 1] if self._seq > 1 else []
        self._runner.compute(StepPlan(step=0, slices=[], new=[sequence], ended=ended))

    def logits(self, start: int, stop: int) -> Floats:
        """Logits [stop - start, vocabulary] after each of these tokens; call in order."""
        part = Slice(
            seq=self._seq,
            start=start,
            tokens=self._tokens[start:stop],
            blocks=self._blocks,
            outputs=0,
        )
        self._runner.compute(StepPlan(step=0, slices=[part]))
        return self._runner.logits(stop - start)


def compare(comparison: QualityComparison) -> Iterator[QualityProgress]:
    """The progress after each context; raises `HeadwayError` where a candidate cannot be run."""
    runners = [CandidateRunner(candidate) for candidate in comparison.candidates]
    totals = [Totals() for _ in runners]
    tokens = 0
    for done, context in enumerate(comparison.contexts):
        for part in _context(runners, context):
            totals = [old.plus(new) for old, new in zip(totals, part, strict=True)]
        tokens += len(context) - 1
        yield QualityProgress(contexts=done + 1, tokens=tokens, totals=tuple(totals))


def measure(base: Floats, logits: Floats, targets: Ints) -> Totals:
    """Compare logits [rows, vocabulary] with the first candidate's, given the true next tokens."""
    found = Totals()
    for start in range(0, len(logits), _ROWS_AT_ONCE):
        part = slice(start, start + _ROWS_AT_ONCE)
        expected, ours = _log_probabilities(base[part]), _log_probabilities(logits[part])
        wanted = ours[np.arange(len(ours)), targets[part]]
        same = expected.argmax(axis=1) == ours.argmax(axis=1)
        difference = expected - ours
        difference *= np.exp(expected)
        found = found.plus(
            Totals(
                loss=-float(wanted.sum(dtype=np.float64)),
                divergence=float(difference.sum(dtype=np.float64)),
                agreement=int(same.sum()),
            )
        )
    return found


def main() -> int:
    try:
        comparison = msgspec.json.decode(sys.stdin.buffer.read(), type=QualityComparison)
        for progress in compare(comparison):
            _write(progress)
    except HeadwayError as error:
        _write(QualityProgress(contexts=0, tokens=0, totals=(), error=error.message))
        return 1
    return 0


def _context(runners: Sequence[CandidateRunner], context: Sequence[int]) -> Iterator[list[Totals]]:
    """Totals of every candidate, for some tokens of a context at a time."""
    known, targets = context[:-1], np.array(context[1:], dtype=np.int64)
    for runner in runners:
        runner.begin(known)
    for start in range(0, len(known), STEP_TOKENS):
        stop = min(start + STEP_TOKENS, len(known))
        wanted = targets[start:stop]
        base = runners[0].logits(start, stop)
        yield [
            measure(base, base, wanted),
            *(measure(base, runner.logits(start, stop), wanted) for runner in runners[1:]),
        ]


def _log_probabilities(logits: Floats) -> Floats:
    """Log-softmax of each row."""
    shifted: Floats = logits - logits.max(axis=1, keepdims=True)
    shifted -= np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    return shifted


def _write(progress: QualityProgress) -> None:
    sys.stdout.buffer.write(msgspec.json.encode(progress) + b"\n")
    sys.stdout.buffer.flush()


if __name__ == "__main__":
    sys.exit(main())
