"""Sampling steps that rule tokens out (their score becomes -inf), and the temperature.

Where several tokens have the same score at the edge of `top_k` or `top_p`, those with the lowest
ids stay, so that the kept set is defined by the scores alone, and `top_k` 1 is the greedy choice.

How a token is chosen from scores: a list of small steps, then one draw.

Each step changes some rows of a float32 matrix [rows, vocabulary] in place, and runs only on the
rows that ask for it; a new feature is a new step in `STEPS`, whose order is vLLM's. Then a greedy
row takes its highest score (the lowest id among equals). In any other row, tokens race:

    weight[i] = exp(score[i] - max score)
    token     = the i with the smallest exponential[i] / weight[i]

where `random.exponentials` has a number for each (seed, position, token). Token i wins with the
probability weight[i] / sum of weights, whatever the batch. And a score that comes out a rounding
error apart changes the winner only if two tokens were that close, whereas with one number looked
up in cumulated weights it would move every boundary. Knows nothing of models, blocks or plans.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from headway.runner.batch import SamplingMetadata, bad_endings, held_stops
from headway.runner.sampling import penalties
from headway.runner.sampling.philox import exponentials
from headway.types import ResolvedSampling

_LOWEST_TEMPERATURE = 1e-5
_CANDIDATES = (256, 4096)


def allow(scores: Tensor, rows: list[int], asks: list[SamplingMetadata]) -> None:
    """Rule out all but the listed tokens."""
    for row, ask in zip(rows, asks, strict=True):
        listed = torch.tensor(ask.sampling.allowed_token_ids, device=scores.device)
        kept = scores[row, listed]
        scores[row] = -torch.inf
        scores[row, listed] = kept


def ban_words(scores: Tensor, rows: list[int], asks: list[SamplingMetadata]) -> None:
    """Rule out the tokens that would complete a bad word."""
    for row, ask in zip(rows, asks, strict=True):
        scores[row, bad_endings(ask)] = -torch.inf


def hold_stop(scores: Tensor, rows: list[int], asks: list[SamplingMetadata]) -> None:
    """Rule out the stop tokens until `min_tokens` have been generated."""
    for row, ask in zip(rows, asks, strict=True):
        scores[row, held_stops(ask)] = -torch.inf


def temper(scores: Tensor, rows: list[int], asks: list[SamplingMetadata]) -> None:
    """Take the row's maximum off and divide by the temperature (at least 1e-5)."""
    heat = [max(ask.sampling.temperature, _LOWEST_TEMPERATURE) for ask in asks]
    part = _take(scores, rows)
    # A row without any token left has maximum -inf, and must stay so instead of turning NaN.
    top = part.max(dim=-1, keepdim=True).values.clamp(min=torch.finfo(part.dtype).min)
    _put(scores, rows, part.sub_(top).div_(_column(heat, scores)))


def min_p(scores: Tensor, rows: list[int], asks: list[SamplingMetadata]) -> None:
    """Rule out tokens less likely than `min_p` times the likeliest."""
    floor = _column([math.log(ask.sampling.min_p) for ask in asks], scores)
    part = _take(scores, rows)
    top = part.max(dim=-1, keepdim=True).values
    _put(scores, rows, part.masked_fill_(part < top + floor, -torch.inf))


def top_k(scores: Tensor, rows: list[int], asks: list[SamplingMetadata]) -> None:
    """Keep the k highest scores."""
    vocabulary = scores.shape[1]
    sizes = [min(ask.sampling.top_k, vocabulary) for ask in asks]
    part = _take(scores, rows)
    ordered = part.topk(max(sizes), dim=-1).values
    _put(scores, rows, _keep(part, ordered, torch.tensor(sizes, device=scores.device)[:, None]))


def top_p(scores: Tensor, rows: list[int], asks: list[SamplingMetadata]) -> None:
    """Keep the fewest highest scores whose probabilities sum to at least `top_p`.

    The sum runs over descending scores in float64, against `top_p` times the total of all. A row
    is sorted only where its first few thousand scores do not suffice.
    """
    part, left = scores[rows], torch.tensor(rows, device=scores.device)
    share = _column([ask.sampling.top_p for ask in asks], scores).double()
    goal = share * _total(part)
    for count in (*_CANDIDATES, part.shape[1]):
        short = _keep_mass(scores, left, part, goal, min(count, part.shape[1]))
        if not short.any():
            break
        part, left, goal = part[short], left[short], goal[short]


def _total(scores: Tensor) -> Tensor:
    """Sums of exp(score - max), float64 [rows, 1]."""
    top = scores.max(dim=-1, keepdim=True).values.clamp(min=torch.finfo(scores.dtype).min)
    return (scores - top).exp_().sum(dim=-1, keepdim=True, dtype=torch.float64)


def _keep_mass(scores: Tensor, rows: Tensor, part: Tensor, goal: Tensor, count: int) -> Tensor:
    """Cut the rows whose `count` highest scores reach the goal; says which did not, [rows]."""
    ordered = part.topk(count, dim=-1).values
    top = ordered[:, :1].clamp(min=torch.finfo(part.dtype).min)
    mass = torch.cumsum((ordered - top).exp(), dim=-1, dtype=torch.float64)
    # Summed in another order than the total, the whole may fall a rounding short of the goal.
    enough = (mass[:, -1:] >= goal)[:, 0] | (count == part.shape[1])
    sizes = ((mass < goal).sum(-1, keepdim=True) + 1).clamp(max=count)
    scores[rows[enough]] = _keep(part[enough], ordered[enough], sizes[enough])
    return ~enough


def _keep(part: Tensor, ordered: Tensor, sizes: Tensor) -> Tensor:
    """The rows with all but their `sizes` [rows, 1] highest scores ruled out.

    `ordered` holds the highest scores of each row in descending order, as many as are needed.
    """
    edge = ordered.gather(1, sizes - 1)
    room = sizes - (ordered > edge).sum(-1, keepdim=True)
    equal = part == edge
    surplus = part < edge
    if (equal.sum(-1, keepdim=True) > room).any():
        surplus |= equal & (equal.cumsum(-1) > room)
    return part.masked_fill_(surplus, -torch.inf)


def _column(values: list[float], like: Tensor) -> Tensor:
    return torch.tensor(values, dtype=like.dtype, device=like.device)[:, None]


def _take(scores: Tensor, rows: list[int]) -> Tensor:
    """The rows (ascending, distinct): a copy, unless they are all."""
    return scores if len(rows) == len(scores) else scores[rows]


def _put(scores: Tensor, rows: list[int], part: Tensor) -> None:
    """Write back what `_take` gave, changed in place."""
    if part is not scores:
        scores[rows] = part


@dataclass(frozen=True, slots=True, kw_only=True)
class SamplingStep:
    """`apply` changes the given rows of the scores; `asks[n]` belongs to row `rows[n]`."""

    wanted: Callable[[ResolvedSampling], bool]
    apply: Callable[[Tensor, list[int], list[SamplingMetadata]], None]


STEPS: tuple[SamplingStep, ...] = (
    SamplingStep(wanted=lambda s: s.allowed_token_ids is not None, apply=allow),
    SamplingStep(wanted=lambda s: bool(s.bad_words), apply=ban_words),
    SamplingStep(wanted=lambda s: s.min_tokens > 0, apply=hold_stop),
    SamplingStep(wanted=lambda s: bool(s.logit_bias), apply=penalties.bias),
    SamplingStep(wanted=lambda s: s.repetition_penalty != 1.0, apply=penalties.repetition),
    SamplingStep(
        wanted=lambda s: s.frequency_penalty != 0.0 or s.presence_penalty != 0.0,
        apply=penalties.frequency_and_presence,
    ),
    SamplingStep(wanted=lambda s: s.temperature != 0.0, apply=temper),
    SamplingStep(wanted=lambda s: s.temperature != 0.0 and s.min_p > 0.0, apply=min_p),
    SamplingStep(wanted=lambda s: s.temperature != 0.0 and s.top_k > 0, apply=top_k),
    SamplingStep(wanted=lambda s: s.temperature != 0.0 and s.top_p < 1.0, apply=top_p),
)


def sample(scores: Tensor, asks: Sequence[SamplingMetadata]) -> list[int | None]:
    """A token for each row of scores [rows, vocabulary]; None where every token is ruled out.

    The scores are finite, of any floating type, and stay unchanged.
    """
    tokens: list[int | None] = scores.max(dim=-1).indices.tolist()
    rows = [row for row, ask in enumerate(asks) if not ask.plain]
    if not rows:
        return tokens
    work = scores[rows].float() if len(rows) < len(asks) else scores.to(torch.float32, copy=True)
    asking = [asks[row] for row in rows]
    for step in STEPS:
        some = [n for n, ask in enumerate(asking) if step.wanted(ask.sampling)]
        if some:
            step.apply(work, some, [asking[n] for n in some])
    highest, best = (each.tolist() for each in work.max(dim=-1))
    for n, row in enumerate(rows):
        tokens[row] = best[n] if highest[n] > -torch.inf else None
    drawn = [
        n
        for n, ask in enumerate(asking)
        if ask.sampling.temperature != 0.0 and tokens[rows[n]] is not None
    ]
    if drawn:
        part = work if len(drawn) == len(rows) else work[drawn]
        for n, token in zip(drawn, _draw(part, [asking[n] for n in drawn]), strict=True):
            tokens[rows[n]] = token
    return tokens


def _draw(scores: Tensor, asks: Sequence[SamplingMetadata]) -> list[int]:
    """The winner of each row of scores [rows, vocabulary], of which not all are -inf."""
    seeds, positions = [ask.sampling.seed for ask in asks], [ask.position for ask in asks]
    times = exponentials(seeds, positions, scores.shape[1]).to(scores.device)
    top = scores.max(dim=-1, keepdim=True).values
    # A weight of 0 takes forever, which no other token's time can be.
    winners: list[int] = times.div_((scores - top).exp_()).argmin(dim=-1).tolist()
    return winners
