"""What crosses the waist: `StepPlan` down to a `Runner`, `StepResult` back up.

A plan is complete: a runner needs nothing else to compute a step, so a plan can be recorded,
replayed, simulated or sent to another machine. There is no notion of prefill or decode here; a
slice is some consecutive tokens of one sequence whose keys and values are not stored yet.

What every sequence of every step has one of is a msgspec struct: it is made in a tenth of the time
of a frozen dataclass, and `gc=False` spares the garbage collector what can be in no cycle.
"""

from __future__ import annotations

from collections.abc import Sequence as Seq
from dataclasses import dataclass
from typing import Protocol

import msgspec

from headway.types.sampling import ResolvedSampling


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Bounds on a step that hold under every policy."""

    max_num_seqs: int
    """Most sequences in one step."""
    max_num_batched_tokens: int
    """Most new tokens in one step."""
    max_num_partial_prefills: int
    """Most slices in one step that leave part of their sequence uncomputed."""
    max_model_len: int
    """Most tokens, prompt and generated, of one sequence."""


class Slice(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One sequence's share of a step: `tokens` sit at positions `start, start+1, ...`.

    `blocks` is the sequence's whole block table so far; position p lives in block
    `blocks[p // block_size]` at offset `p % block_size`.

    `outputs` says how many of the slice's last rows give something. Usually that is 1 where the
    last token of the slice is the last one known, so that the runner samples the token after it,
    and 0 elsewhere. With k + 1, the last k of `tokens` are drafts, guesses at what would be sampled
    there: the runner samples after the last known token and after every draft, and answers with the
    tokens up to the first that differs from its draft. Of a sequence with `hidden`, the rows are
    not sampled from (so there are no drafts): the answer is their hidden states.

    A slice with outputs may begin before the end of what was computed: whoever fed tokens that
    proved wrong feeds others in their place, and the runner forgets what came from there on.
    """

    seq: int
    start: int
    tokens: Seq[int]
    blocks: Seq[int]
    outputs: int


@dataclass(frozen=True, slots=True, kw_only=True)
class NewSequence:
    """What a runner must know of a sequence before its first slice (and after a preemption).

    `tokens` are all tokens known at that time, of which the first `prompt_len` are the prompt and
    the rest were generated earlier (before a preemption, or by another engine). With `hidden`,
    its slices give hidden states instead of tokens, for an embedding.
    """

    seq: int
    tokens: Seq[int]
    prompt_len: int
    sampling: ResolvedSampling
    hidden: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class StepPlan:
    """One step: which sequences are new, what to compute, and which have left since the last one.

    A runner applies `ended` first, then `new`, then computes `slices`. A preempted sequence is in
    `ended`, and in `new` again when it resumes.
    """

    step: int
    slices: Seq[Slice]
    new: Seq[NewSequence] = ()
    ended: Seq[int] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenLogprobs:
    """Natural-log probabilities at one position: of the token there, and of the likeliest ones.

    They are those of the model's own distribution, before temperature and every other sampling
    step (as vLLM's `raw_logprobs`). `rank` is the chosen token's, 1 for the likeliest. `top`
    holds (token, logprob), likeliest first.
    """

    token: int
    logprob: float
    rank: int
    top: tuple[tuple[int, float], ...] = ()


class Sampled(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """The tokens that one slice gave, at least one: those of its drafts that were right, and the
    one that was sampled after them. `logprobs` has an entry for each of them, or is empty where
    none were asked for. `error` says why there are no tokens instead, for example because the
    logits were not finite.
    """

    seq: int
    tokens: tuple[int, ...] = ()
    logprobs: tuple[TokenLogprobs, ...] = ()
    error: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class HiddenStates:
    """The hidden states of the last rows of one slice, after the model's final norm.

    `rows` has one tuple for each of the slice's `outputs`, by position, as long as the model is
    wide. They are what the lm_head reads, so with quantised weights they are rounded to the format
    in which it reads them. `error` says why there are none instead.
    """

    seq: int
    rows: tuple[tuple[float, ...], ...] = ()
    error: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PromptLogprobs:
    """Log probabilities of prompt tokens at positions `start, start+1, ...` of one sequence.

    Position 0 has none, so `start` is at least 1.
    """

    seq: int
    start: int
    logprobs: tuple[TokenLogprobs, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class StepResult:
    """What a step gave, and its duration.

    There is a `Sampled` for every slice with outputs, or a `HiddenStates` where its sequence is
    `hidden`, each in the plan's order.
    """

    step: int
    sampled: Seq[Sampled] = ()
    hidden: Seq[HiddenStates] = ()
    prompt_logprobs: Seq[PromptLogprobs] = ()
    seconds: float = 0.0


class Runner(Protocol):
    """Computes steps, one after the other: with native kernels, with PyTorch, or simulated."""

    def compute(self, plan: StepPlan) -> StepResult:
        """Compute a step; returns when it is done. The plan's lists must not change meanwhile.

        What concerns one sequence is an error in its `Sampled`; what concerns the whole step is
        raised.
        """
        ...
