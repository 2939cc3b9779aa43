"""Sampling one token natively, and which tokens it may be, computed in float64.

The native exponential and logarithm round otherwise than torch's, so two tokens whose times are a
few units in the last place apart may change places, and so may tokens at the edge of `top_p`
where the mass is that close to the goal. `acceptable` holds all tokens that this could make the
winner: nearly always there is one.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from headway.native import Library, abi
from headway.runner.batch import BadWords, Mask, SamplingMetadata, early_stops, is_greedy
from headway.runner.sampling.sampler import words
from headway.runner.sampling.steps import STEPS
from headway.types import ResolvedSampling

Floats = npt.NDArray[np.float32]
_NEAR = 2e-6


@dataclass(frozen=True, slots=True, kw_only=True)
class NativeToken:
    """What `hw_sample` wrote."""

    status: int
    token: int
    logprob: float
    rank: int
    top: tuple[tuple[int, float], ...]


def banned(ask: SamplingMetadata) -> list[int]:
    """Tokens ruled out for this step, of bad words of one token and of stop tokens held back."""
    return [token for (token,) in ask.sampling.bad_words] + early_stops(ask)


def sample_natively(
    library: Library, isa: str, logits: Floats, ask: SamplingMetadata, *, target: int = -1
) -> NativeToken:
    """One row of raw logits [vocabulary] through `hw_sample`."""
    s = ask.sampling
    number = -1 if s.logprobs is None else s.logprobs
    tokens = np.ascontiguousarray(ask.tokens)
    allowed = np.array(s.allowed_token_ids or (), dtype=np.int64)
    out = np.array(banned(ask), dtype=np.int64)
    mask = None if ask.mask is None else np.ascontiguousarray(ask.mask)
    bias_tokens = np.array([token for token, _ in s.logit_bias], dtype=np.int64)
    bias = np.array([value for _, value in s.logit_bias], dtype=np.float32)
    top_tokens = np.full(max(number, 0), -7, dtype=np.int64)
    top_logprobs = np.full(max(number, 0), np.nan, dtype=np.float32)
    sampling = abi.HwSampling(
        target=target,
        seed=s.seed,
        position=ask.position,
        tokens=tokens.ctypes.data,
        num_tokens=len(tokens),
        prompt_len=ask.prompt_len,
        allowed=allowed.ctypes.data,
        num_allowed=-1 if s.allowed_token_ids is None else len(allowed),
        banned=out.ctypes.data,
        num_banned=len(out),
        bias_tokens=bias_tokens.ctypes.data,
        bias_values=bias.ctypes.data,
        num_bias=len(bias),
        mask=None if mask is None else mask.ctypes.data,
        temperature=s.temperature,
        top_p=s.top_p,
        min_p=s.min_p,
        top_k=min(s.top_k, 2**31 - 1),
        repetition_penalty=s.repetition_penalty,
        frequency_penalty=s.frequency_penalty,
        presence_penalty=s.presence_penalty,
        greedy=ask.greedy,
        logprobs=number,
    )
    sampled = abi.HwSampledToken(
        top_tokens=top_tokens.ctypes.data, top_logprobs=top_logprobs.ctypes.data
    )
    row = logits.ctypes.data_as(ctypes.POINTER(ctypes.c_float))
    answer = library.hw_sample(
        isa.encode(), row, len(logits), ctypes.byref(sampling), ctypes.byref(sampled)
    )
    assert answer == 0
    return NativeToken(
        status=sampled.status,
        token=sampled.token,
        logprob=sampled.logprob,
        rank=sampled.rank,
        top=tuple(zip(top_tokens.tolist(), top_logprobs.tolist(), strict=True)),
    )


def acceptable(logits: Floats, ask: SamplingMetadata) -> set[int]:
    """The tokens that may be sampled; empty where every token is ruled out."""
    s = ask.sampling
    row = torch.from_numpy(logits.copy())[None]
    for step in STEPS[:-1]:  # all but top_p
        if step.wanted(s):
            step.apply(row, [0], [ask])
    after = row[0].numpy().astype(np.float64)
    if after.max() == -np.inf:
        return set()
    if s.temperature == 0:
        return {int(after.argmax())}
    # Likeliest first, and the lowest id first among equals: top_p keeps a beginning of this order.
    order = np.argsort(-after, kind="stable")
    weights = np.exp(after - after.max())[order]
    fewest = most = int((weights > 1e-300).sum())
    if s.top_p < 1:
        mass, goal = np.cumsum(weights), np.float64(np.float32(s.top_p)) * weights.sum()
        fewest = min(most, int((mass < goal * (1 - _NEAR)).sum()) + 1)
        most = min(most, int((mass < goal * (1 + _NEAR)).sum()) + 1)
    return _winners(_exponentials(ask, len(logits))[order[:most]] / weights[:most], order, fewest)


def _winners(times: npt.NDArray[np.float64], order: npt.NDArray[np.int64], fewest: int) -> set[int]:
    """The tokens with about the shortest time among the first n, for any n from `fewest`."""
    shortest = np.minimum.accumulate(times)
    found = set(order[:fewest][times[:fewest] <= shortest[fewest - 1] * (1 + _NEAR)].tolist())
    later = times[fewest:] <= shortest[fewest:] * (1 + _NEAR)
    return found | set(order[fewest : len(times)][later].tolist())


def _exponentials(ask: SamplingMetadata, vocabulary: int) -> npt.NDArray[np.float64]:
    raw = words(ask.sampling.seed, ask.position, vocabulary)
    rounded = (raw + 0.5).astype(np.float32).astype(np.float64)
    found: npt.NDArray[np.float64] = -np.log1p(-np.minimum(rounded / 2**32, 1 - 2.0**-24))
    return found


def mask_of(tokens: Iterable[int], vocabulary: int) -> Mask:
    """The bits of these tokens."""
    bits = np.zeros(-(-vocabulary // 32) * 32, dtype=np.uint8)
    bits[list(tokens)] = 1
    return np.packbits(bits, bitorder="little").view("<u4").astype(np.uint32)


def ask_for(
    prompt: list[int],
    generated: list[int],
    sampling: ResolvedSampling,
    mask: Mask | None = None,
) -> SamplingMetadata:
    """What the sampler is told, as the runner tells it."""
    return SamplingMetadata(
        sampling=sampling,
        tokens=np.array(prompt + generated, dtype=np.int64),
        prompt_len=len(prompt),
        bad_words=BadWords(sampling.bad_words),
        greedy=is_greedy(sampling),
        mask=mask,
    )
