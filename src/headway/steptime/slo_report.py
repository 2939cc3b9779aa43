"""The answer of `GET /slo`, which `headway explain` shows: plain data, read and written as JSON."""

from __future__ import annotations

from dataclasses import dataclass

from headway.steptime.explanation import Explanation, Unheld


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassReport:
    """One class of requests."""

    objectives: tuple[str, ...]
    """Of requests that bring none."""
    unheld: tuple[Unheld, ...]
    """Those that no batch can hold, with the nearest that one can; empty until that is known."""
    longest_prompt: int | None = None
    """Tokens of the longest prompt that keeps the objective for TTFT with the machine to itself;
    None where there is none, or nothing is known of the machine."""
    attainment: float | None = None
    """Share of the requests offered lately that met all their objectives; None where unknown."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchReport:
    """The batch as it is. Times in seconds."""

    running: int
    waiting: int
    step_tokens: int
    """New tokens of the last step."""
    step_seconds: float
    """How long its computing took."""
    predicted_seconds: float | None
    """Predicted for a step of the last second, with all that belongs to one ..."""
    bound_seconds: float | None
    """... and the time that few such steps exceed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrafficReport:
    """What was asked lately, in means over requests. Lengths in tokens, times in seconds."""

    prompt: float
    """Without prefix hits."""
    cached: float
    output: float
    context: float
    requests_per_second: float | None
    ttft: float | None
    """The tightest that more than a few requests ask for; None: nobody does."""
    tpot: float | None
    itl: float | None
    e2el: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelReport:
    """The step-time model that batches are planned with."""

    status: str
    """prior: from the machine's peak rates alone; learned: from its steps; fallback: known to be
    off for much of the time, so that plans are cautious."""
    steps: int
    error: float | None
    """Mean relative error on the last steps."""
    margin_decode: float
    """Factor on a prediction that few steps exceed; by what a step consists of."""
    margin_mixed: float
    margin_prefill: float
    off: tuple[str, ...] = ()
    """Of decode, mixed and prefill, those whose predictions are far off."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LimitsReport:
    """What bounds the batch whatever the objectives are."""

    max_num_seqs: int
    max_num_batched_tokens: int
    kv_cache_tokens: int
    pinned: tuple[str, ...]
    """Settings of these that a user has given; the others Headway chose."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SpeculationReport:
    """Tokens that are computed ahead of their sampling."""

    method: str | None
    """Where drafts come from: ngram or draft_model; None where grammars and
    predictions alone give any."""
    off: str = ""
    """Why a step has none at present, for people; empty where some has, or nothing runs."""
    sequences: int = 0
    """Of a step of the last second ..."""
    drafting: int = 0
    """... and those of them that had drafts."""
    tokens_per_step: float | None = None
    """Mean tokens that a sequence with drafts got of a step, since the start; None before any."""
    acceptance: float | None = None
    """Share of all drafts that were right; None before any."""
    declined: int = 0
    """How often a sequence could have had drafts that were not expected to pay, since the start."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SloReport:
    """The answer of `GET /slo`."""

    classes: dict[str, ClassReport]
    batch: BatchReport
    limits: LimitsReport
    traffic: TrafficReport | None
    """None before any request has ended."""
    model: ModelReport | None
    """None where the machine's peak rates are not known."""
    explanation: Explanation | None
    """None where either is."""
    speculation: SpeculationReport | None = None
    """None where it is off."""
    replica: int = 0
    """Of several engines, the one that all but `classes` is about: most requests come to it."""
    replicas: int = 1
    """How many engines there are."""
