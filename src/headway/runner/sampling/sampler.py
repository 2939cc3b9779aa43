"""How tokens are sampled from logits: the steps that the requests ask for, then one draw a row.

A greedy row takes its highest logit (the lowest id among equals). In any other row, tokens race:

    weight[i] = exp(logit[i] - max logit)
    token     = the i with the smallest exponential[i] / weight[i]

where `exponentials` has a number for each (seed, position, token). Token i wins with the
probability weight[i] / sum of weights, whatever the batch. And a logit that comes out a rounding
error apart changes the winner only if two tokens were that close, whereas with one number looked
up in cumulated weights it would move every boundary. This is the definition of what the native
kernels do, too. Knows nothing of models, blocks or plans.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from headway.runner.batch import SamplingMetadata
from headway.runner.sampling.steps import STEPS
from headway.types import TokenLogprobs


def sample(logits: Tensor, metadata: Sequence[SamplingMetadata]) -> list[int | None]:
    """A token for each row of logits [rows, vocabulary]; None where every token is ruled out.

    The logits are finite, of any floating type, and stay unchanged.
    """
    tokens: list[int | None] = logits.max(dim=-1).indices.tolist()
    rows = [row for row, each in enumerate(metadata) if not each.greedy]
    if not rows:
        return tokens
    work = (
        logits[rows].float() if len(rows) < len(metadata) else logits.to(torch.float32, copy=True)
    )
    changed = [metadata[row] for row in rows]
    for step in STEPS:
        some = [n for n, each in enumerate(changed) if step.wanted(each.sampling)]
        if some:
            step.apply(work, some, [changed[n] for n in some])
    highest, best = (each.tolist() for each in work.max(dim=-1))
    for n, row in enumerate(rows):
        tokens[row] = best[n] if highest[n] > -torch.inf else None
    drawn = [
        n
        for n, each in enumerate(changed)
        if each.sampling.temperature != 0.0 and tokens[rows[n]] is not None
    ]
    if drawn:
        part = work if len(drawn) == len(rows) else work[drawn]
        for n, token in zip(drawn, _draw(part, [changed[n] for n in drawn]), strict=True):
            tokens[rows[n]] = token
    return tokens


def _draw(logits: Tensor, metadata: Sequence[SamplingMetadata]) -> list[int]:
    """The winner of each row of logits [rows, vocabulary], of which not all are -inf."""
    seeds, positions = (
        [each.sampling.seed for each in metadata],
        [each.position for each in metadata],
    )
    times = exponentials(seeds, positions, logits.shape[1]).to(logits.device)
    top = logits.max(dim=-1, keepdim=True).values
    # A weight of 0 takes forever, which no other token's time can be.
    winners: list[int] = times.div_((logits - top).exp_()).argmin(dim=-1).tolist()
    return winners


def gather_logprobs(
    logits: Tensor,
    tokens: Sequence[int],
    tops: Sequence[int],
    listed: Sequence[tuple[int, ...]] = (),
) -> tuple[TokenLogprobs, ...]:
    """For each row of raw logits [rows, vocabulary]: its token, that token's rank, the likeliest.

    Of the model's own distribution, before any step of sampling; `tops[n]` is how many of the
    likeliest tokens row n asks for; with `listed`, row n gets those of `listed[n]` instead if any.
    """
    if not tokens:
        return ()
    logprobs = torch.log_softmax(logits.float(), dim=-1)
    column = torch.tensor(list(tokens), device=logits.device)[:, None]
    chosen = logprobs.gather(1, column)
    ranks: list[int] = ((logprobs > chosen).sum(-1) + 1).tolist()
    own: list[float] = chosen[:, 0].tolist()
    best = logprobs.topk(min(max(tops), logits.shape[1]), dim=-1)
    values, ids = best.values.tolist(), best.indices.tolist()
    tables = [
        tuple(zip(ids[n][: tops[n]], values[n][: tops[n]], strict=True)) for n in range(len(tokens))
    ]
    for n, some in enumerate(listed):
        if some:
            tables[n] = tuple(zip(some, logprobs[n, list(some)].tolist(), strict=True))
    return tuple(
        TokenLogprobs(
            token=token,
            logprob=own[n],
            rank=ranks[n],
            top=tables[n],
        )
        for n, token in enumerate(tokens)
    )


_HIGHEST = 1 - 2.0**-24


def exponentials(seeds: Sequence[int], positions: Sequence[int], vocabulary: int) -> Tensor:
    """Independent numbers of density exp(-x), finite and above 0: float32 [pairs, vocabulary].

    They depend on nothing but (seed, position, token): Philox 4x64-10, the generator of Salmon et
    al., "Parallel random numbers: as easy as 1, 2, 3" (SC 2011), in numpy's implementation. Key:
    the seed (as unsigned 64 bits) and the position, which is that of the token to be sampled,
    counted from the prompt's first. Counter: 1, 2, 3, ... Its output words, four to a counter, are
    cut into 32-bit halves, the low one first; the i-th half w belongs to token id i:

        v = min((w + 0.5) * 2**-32, 1 - 2**-24)     in float32, w + 0.5 rounded to float32 first
        exponential[i] = -log(1 - v)
    """
    found = np.empty((len(seeds), vocabulary), dtype=np.float32)
    for row, seed, position in zip(found, seeds, positions, strict=True):
        np.add(words(seed, position, vocabulary), np.float32(0.5), out=row)
    uniform = torch.from_numpy(found).mul_(2.0**-32).clamp_(max=_HIGHEST)
    return uniform.neg_().log1p_().neg_()


def words(seed: int, position: int, number: int) -> npt.NDArray[np.uint32]:
    """The first so many 32-bit halves of one (seed, position)'s stream."""
    key = np.array([seed & (2**64 - 1), position], dtype=np.uint64)
    raw: npt.NDArray[np.uint64] = np.random.Philox(key=key).random_raw((number + 1) // 2)
    return raw.astype("<u8", copy=False).view("<u4")[:number]
