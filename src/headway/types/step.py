"""What crosses the waist: `StepPlan` down to a runner, `StepResult` back up.

A plan is complete: a runner needs nothing else to compute a step, so a plan can be recorded,
replayed, simulated or sent to another machine. There is no notion of prefill or decode here; a
slice is some consecutive tokens of one sequence whose keys and values are not stored yet.
"""

from __future__ import annotations

from collections.abc import Sequence as Seq
from dataclasses import dataclass

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


@dataclass(frozen=True, slots=True, kw_only=True)
class Slice:
    """One sequence's share of a step: `tokens` sit at positions `start, start+1, ...`.

    `blocks` is the sequence's whole block table so far; position p lives in block
    `blocks[p // block_size]` at offset `p % block_size`. With `sample`, the last token of the
    slice is the last one known, and the runner samples the token after it.
    """

    seq: int
    start: int
    tokens: Seq[int]
    blocks: Seq[int]
    sample: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class NewSequence:
    """What a runner must know of a sequence before its first slice (and after a preemption).

    `tokens` are all tokens known at that time, of which the first `prompt_len` are the prompt and
    the rest were generated earlier (before a preemption, or by another engine).
    """

    seq: int
    tokens: Seq[int]
    prompt_len: int
    sampling: ResolvedSampling


@dataclass(frozen=True, slots=True, kw_only=True)
class StepPlan:
    """One step: who enters, what to compute, and who has left since the step before.

    A runner applies `ended` first, then `entries`, then computes `slices`. A preempted sequence
    is in `ended`, and in `entries` again when it resumes.
    """

    step: int
    slices: Seq[Slice]
    entries: Seq[NewSequence] = ()
    ended: Seq[int] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenLogprobs:
    """Natural-log probabilities at one position: of the chosen token, and of the likeliest ones.

    They are those of the model's own distribution, before temperature and every other sampling
    step (as vLLM's `raw_logprobs`). `rank` is the chosen token's, 1 for the likeliest. `top`
    holds (token, logprob), likeliest first.
    """

    token: int
    logprob: float
    rank: int
    top: tuple[tuple[int, float], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampled:
    """The token that one slice sampled; `error` instead when its logits were not finite."""

    seq: int
    token: int
    logprobs: TokenLogprobs | None = None
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
    """What a step gave: a `Sampled` per sampling slice, in the plan's order, and its duration."""

    step: int
    sampled: Seq[Sampled]
    prompt_logprobs: Seq[PromptLogprobs] = ()
    seconds: float = 0.0
