"""Sampling steps that rule tokens out (their score becomes -inf), and the temperature.

Where several tokens have the same score at the edge of `top_k` or `top_p`, those with the lowest
ids stay, so that the kept set is defined by the scores alone, and `top_k` 1 is the greedy choice.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from headway.runner.ask import Ask
from headway.runner.bans import bad_endings, held_stops

_LOWEST_TEMPERATURE = 1e-5
_CANDIDATES = (256, 4096)


def allow(scores: Tensor, rows: list[int], asks: list[Ask]) -> None:
    """Rule out all but the listed tokens."""
    for row, ask in zip(rows, asks, strict=True):
        listed = torch.tensor(ask.sampling.allowed_token_ids, device=scores.device)
        kept = scores[row, listed]
        scores[row] = -torch.inf
        scores[row, listed] = kept


def ban_words(scores: Tensor, rows: list[int], asks: list[Ask]) -> None:
    """Rule out the tokens that would complete a bad word."""
    for row, ask in zip(rows, asks, strict=True):
        scores[row, bad_endings(ask)] = -torch.inf


def hold_stop(scores: Tensor, rows: list[int], asks: list[Ask]) -> None:
    """Rule out the stop tokens until `min_tokens` have been generated."""
    for row, ask in zip(rows, asks, strict=True):
        scores[row, held_stops(ask)] = -torch.inf


def temper(scores: Tensor, rows: list[int], asks: list[Ask]) -> None:
    """Take the row's maximum off and divide by the temperature (at least 1e-5)."""
    heat = [max(ask.sampling.temperature, _LOWEST_TEMPERATURE) for ask in asks]
    part = _take(scores, rows)
    # A row without any token left has maximum -inf, and must stay so instead of turning NaN.
    top = part.max(dim=-1, keepdim=True).values.clamp(min=torch.finfo(part.dtype).min)
    _put(scores, rows, part.sub_(top).div_(_column(heat, scores)))


def min_p(scores: Tensor, rows: list[int], asks: list[Ask]) -> None:
    """Rule out tokens less likely than `min_p` times the likeliest."""
    floor = _column([math.log(ask.sampling.min_p) for ask in asks], scores)
    part = _take(scores, rows)
    top = part.max(dim=-1, keepdim=True).values
    _put(scores, rows, part.masked_fill_(part < top + floor, -torch.inf))


def top_k(scores: Tensor, rows: list[int], asks: list[Ask]) -> None:
    """Keep the k highest scores."""
    vocabulary = scores.shape[1]
    sizes = [min(ask.sampling.top_k, vocabulary) for ask in asks]
    part = _take(scores, rows)
    ordered = part.topk(max(sizes), dim=-1).values
    _put(scores, rows, _keep(part, ordered, torch.tensor(sizes, device=scores.device)[:, None]))


def top_p(scores: Tensor, rows: list[int], asks: list[Ask]) -> None:
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
