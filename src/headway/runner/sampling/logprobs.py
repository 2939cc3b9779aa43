"""Log probabilities for callers: of the model's own distribution, before any sampling step."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from headway.types import TokenLogprobs


def gather_logprobs(
    scores: Tensor, tokens: Sequence[int], tops: Sequence[int]
) -> tuple[TokenLogprobs, ...]:
    """For each row of raw scores [rows, vocabulary]: its token, that token's rank, the likeliest.

    `tops[n]` is how many of the likeliest tokens row n asks for.
    """
    if not tokens:
        return ()
    shares = torch.log_softmax(scores.float(), dim=-1)
    column = torch.tensor(list(tokens), device=scores.device)[:, None]
    chosen = shares.gather(1, column)
    ranks: list[int] = ((shares > chosen).sum(-1) + 1).tolist()
    logprobs: list[float] = chosen[:, 0].tolist()
    best = shares.topk(min(max(tops), scores.shape[1]), dim=-1)
    values, ids = best.values.tolist(), best.indices.tolist()
    return tuple(
        TokenLogprobs(
            token=token,
            logprob=logprobs[n],
            rank=ranks[n],
            top=tuple(zip(ids[n][: tops[n]], values[n][: tops[n]], strict=True)),
        )
        for n, token in enumerate(tokens)
    )
