"""How a token is chosen from scores: a list of small steps, then one draw.

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

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from headway.runner import filters, penalties
from headway.runner.ask import Ask
from headway.runner.random import exponentials
from headway.types import ResolvedSampling


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """`apply` changes the given rows of the scores; `asks[n]` belongs to row `rows[n]`."""

    wanted: Callable[[ResolvedSampling], bool]
    apply: Callable[[Tensor, list[int], list[Ask]], None]


STEPS: tuple[Step, ...] = (
    Step(wanted=lambda s: s.allowed_token_ids is not None, apply=filters.allow),
    Step(wanted=lambda s: bool(s.bad_words), apply=filters.ban_words),
    Step(wanted=lambda s: s.min_tokens > 0, apply=filters.hold_stop),
    Step(wanted=lambda s: bool(s.logit_bias), apply=penalties.bias),
    Step(wanted=lambda s: s.repetition_penalty != 1.0, apply=penalties.repetition),
    Step(
        wanted=lambda s: s.frequency_penalty != 0.0 or s.presence_penalty != 0.0,
        apply=penalties.frequency_and_presence,
    ),
    Step(wanted=lambda s: s.temperature != 0.0, apply=filters.temper),
    Step(wanted=lambda s: s.temperature != 0.0 and s.min_p > 0.0, apply=filters.min_p),
    Step(wanted=lambda s: s.temperature != 0.0 and s.top_k > 0, apply=filters.top_k),
    Step(wanted=lambda s: s.temperature != 0.0 and s.top_p < 1.0, apply=filters.top_p),
)


def choose(scores: Tensor, asks: Sequence[Ask]) -> list[int | None]:
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


def _draw(scores: Tensor, asks: Sequence[Ask]) -> list[int]:
    """The winner of each row of scores [rows, vocabulary], of which not all are -inf."""
    seeds, positions = [ask.sampling.seed for ask in asks], [ask.position for ask in asks]
    times = exponentials(seeds, positions, scores.shape[1]).to(scores.device)
    top = scores.max(dim=-1, keepdim=True).values
    # A weight of 0 takes forever, which no other token's time can be.
    winners: list[int] = times.div_((scores - top).exp_()).argmin(dim=-1).tolist()
    return winners
