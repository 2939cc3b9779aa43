"""Sampling steps that add to scores: bias and penalties, as OpenAI and vLLM define them.

Repetition looks at prompt and generated tokens and scales a score (divides it where positive,
multiplies it where negative); frequency and presence look at generated tokens only and subtract.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from headway.runner.batch import SamplingMetadata

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]


def bias(scores: Tensor, rows: list[int], asks: list[SamplingMetadata]) -> None:
    """Add the asked bias to each listed token."""
    pairs = [np.array(ask.sampling.logit_bias) for ask in asks]
    tokens = [pair[:, 0].astype(np.int64) for pair in pairs]
    _add(scores, rows, tokens, [pair[:, 1].astype(np.float32) for pair in pairs])


def repetition(scores: Tensor, rows: list[int], asks: list[SamplingMetadata]) -> None:
    """Make every token that occurred in prompt or continuation less likely (if above 1)."""
    seen = [np.unique(ask.tokens) for ask in asks]
    factor = [
        np.full(len(tokens), ask.sampling.repetition_penalty, dtype=np.float32)
        for tokens, ask in zip(seen, asks, strict=True)
    ]
    flat = scores.view(-1)
    places = _places(scores, rows, seen)
    old, factors = flat[places], torch.from_numpy(np.concatenate(factor)).to(scores.device)
    flat[places] = torch.where(old > 0, old / factors, old * factors)


def frequency_and_presence(scores: Tensor, rows: list[int], asks: list[SamplingMetadata]) -> None:
    """Subtract the frequency penalty per occurrence and the presence penalty once."""
    tokens, amounts = [], []
    for ask in asks:
        seen, times = np.unique(ask.generated, return_counts=True)
        s = ask.sampling
        tokens.append(seen)
        amounts.append((-s.frequency_penalty * times - s.presence_penalty).astype(np.float32))
    _add(scores, rows, tokens, amounts)


def _add(scores: Tensor, rows: list[int], tokens: list[Ints], amounts: list[Floats]) -> None:
    places = _places(scores, rows, tokens)
    scores.view(-1)[places] += torch.from_numpy(np.concatenate(amounts)).to(scores.device)


def _places(scores: Tensor, rows: list[int], tokens: list[Ints]) -> Tensor:
    """Where each row's tokens stand in the flattened scores; no place occurs twice."""
    width = scores.shape[1]
    flat = [row * width + ids for row, ids in zip(rows, tokens, strict=True)]
    return torch.from_numpy(np.concatenate(flat)).to(scores.device)
