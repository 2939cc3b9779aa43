"""Sampling written the slow and obvious way, one row in Python numbers."""

from __future__ import annotations

import math

from headway.runner.batch import SamplingMetadata
from headway.runner.sampling.sampler import exponentials

NEVER = -math.inf


def changed(raw: list[float], metadata: SamplingMetadata) -> list[float]:
    """The row after the steps that concern temperature 0 too."""
    s, all_tokens = metadata.sampling, metadata.tokens.tolist()
    generated = metadata.generated.tolist()
    row = list(raw)
    if metadata.mask is not None:
        has = [i for i in range(len(row)) if int(metadata.mask[i // 32]) >> i % 32 & 1]
        row = [x if i in has else NEVER for i, x in enumerate(row)]
    else:
        has = list(range(len(row)))
    if s.allowed_token_ids is not None:
        row = [x if i in s.allowed_token_ids else NEVER for i, x in enumerate(row)]
    for *head, last in s.bad_words:
        if head == generated[len(generated) - len(head) :] and len(head) <= len(generated):
            row[last] = NEVER
    # What is complete may end early.
    if len(generated) < s.min_tokens and not set(has) <= set(s.stop_token_ids):
        for token in s.stop_token_ids:
            row[token] = NEVER
    for token, amount in s.logit_bias:
        row[token] += amount
    first = 0 if s.repeat_last_n == -1 else len(all_tokens) - s.repeat_last_n
    seen = [n for n in range(len(all_tokens)) if n >= first]
    for token in {all_tokens[n] for n in seen}:
        x = row[token]
        row[token] = x / s.repetition_penalty if x > 0 else x * s.repetition_penalty
    answered = [all_tokens[n] for n in seen if n >= metadata.prompt_len]
    for token in set(answered):
        row[token] -= answered.count(token) * s.frequency_penalty + s.presence_penalty
    return row


def kept(raw: list[float], metadata: SamplingMetadata) -> list[float]:
    """The row after every step, before a token is sampled."""
    s, row = metadata.sampling, changed(raw, metadata)
    if s.temperature == 0 or max(row) == NEVER:
        return row
    row = [(x - max(row)) / max(s.temperature, 1e-5) for x in row]
    if s.min_p:
        row = [x if math.exp(x) >= s.min_p else NEVER for x in row]
    order = sorted(range(len(row)), key=lambda i: (-row[i], i))
    if s.top_k:
        for i in order[s.top_k :]:
            row[i] = NEVER
    if s.top_p < 1:
        total, mass = sum(math.exp(x) for x in row), 0.0
        for i in order:
            if mass >= s.top_p * total:
                row[i] = NEVER
            mass += math.exp(row[i])
    return row


def sample_slowly(raw: list[float], metadata: SamplingMetadata) -> int | None:
    row = kept(raw, metadata)
    if max(row) == NEVER:
        return None
    if metadata.sampling.temperature == 0:
        return row.index(max(row))
    return winner(row, metadata)


def winner(row: list[float], metadata: SamplingMetadata) -> int:
    """The race of `headway.runner.sampling.sampler`, one token after the other."""
    times = exponentials([metadata.sampling.seed], [metadata.position], len(row))[0].tolist()
    best, shortest = -1, math.inf
    for i, (time, x) in enumerate(zip(times, row, strict=True)):
        weight = math.exp(x - max(row))
        if weight and time / weight < shortest:
            best, shortest = i, time / weight
    return best
