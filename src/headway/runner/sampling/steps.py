"""The steps of sampling: each changes the logits of the rows that ask for it, in place.

`STEPS` lists them in vLLM's order; a new feature is a new step. A step gets float32 logits [rows,
vocabulary], the row numbers that it concerns (ascending, distinct), and their metadata, one each.
It rules tokens out (logit -inf), adds to logits, or divides them by the temperature. Penalties are
as OpenAI and vLLM define them: repetition looks at prompt and generated tokens and scales a logit
(divides it where positive, multiplies it where negative); frequency and presence look at generated
tokens only and subtract. With `repeat_last_n`, both look at so many of the last tokens alone.

Where several tokens have the same logit at the edge of `top_k` or `top_p`, those with the lowest
ids stay, so that the kept set is defined by the logits alone, and `top_k` 1 is the greedy choice.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from headway.ops.protocol import Floats, Ints
from headway.runner.batch import SamplingMetadata, bad_word_ends, early_stops
from headway.types import ResolvedSampling

_LOWEST_TEMPERATURE = 1e-5
_TOP_P_CANDIDATES = (256, 4096)


def keep_masked(logits: Tensor, rows: list[int], metadata: list[SamplingMetadata]) -> None:
    """Rule out the tokens that neither a grammar nor the end of reasoning has next."""
    for row, each in zip(rows, metadata, strict=True):
        if each.mask is None:
            continue
        bits = np.unpackbits(each.mask.astype("<u4").view(np.uint8), bitorder="little")
        kept = torch.from_numpy(bits[: logits.shape[1]]).to(logits.device, torch.bool)
        logits[row].masked_fill_(~kept, -torch.inf)


def allow(logits: Tensor, rows: list[int], metadata: list[SamplingMetadata]) -> None:
    """Rule out all but the listed tokens."""
    for row, each in zip(rows, metadata, strict=True):
        listed = torch.tensor(each.sampling.allowed_token_ids, device=logits.device)
        kept = logits[row, listed]
        logits[row] = -torch.inf
        logits[row, listed] = kept


def ban_words(logits: Tensor, rows: list[int], metadata: list[SamplingMetadata]) -> None:
    """Rule out the tokens that would complete a bad word."""
    for row, each in zip(rows, metadata, strict=True):
        logits[row, bad_word_ends(each)] = -torch.inf


def hold_stops(logits: Tensor, rows: list[int], metadata: list[SamplingMetadata]) -> None:
    """Rule out the stop tokens until `min_tokens` have been generated."""
    for row, each in zip(rows, metadata, strict=True):
        logits[row, early_stops(each)] = -torch.inf


def bias(logits: Tensor, rows: list[int], metadata: list[SamplingMetadata]) -> None:
    """Add the asked bias to each listed token."""
    pairs = [np.array(each.sampling.logit_bias) for each in metadata]
    tokens = [pair[:, 0].astype(np.int64) for pair in pairs]
    _add(logits, rows, tokens, [pair[:, 1].astype(np.float32) for pair in pairs])


def repetition(logits: Tensor, rows: list[int], metadata: list[SamplingMetadata]) -> None:
    """Make every token that occurred in prompt or continuation less likely (if above 1)."""
    seen = [np.unique(each.tokens[each.unpenalised :]) for each in metadata]
    factor = [
        np.full(len(tokens), each.sampling.repetition_penalty, dtype=np.float32)
        for tokens, each in zip(seen, metadata, strict=True)
    ]
    flat = logits.view(-1)
    indexes = _flat_indexes(logits, rows, seen)
    old, factors = flat[indexes], torch.from_numpy(np.concatenate(factor)).to(logits.device)
    flat[indexes] = torch.where(old > 0, old / factors, old * factors)


def frequency_and_presence(
    logits: Tensor, rows: list[int], metadata: list[SamplingMetadata]
) -> None:
    """Subtract the frequency penalty per occurrence and the presence penalty once."""
    tokens, amounts = [], []
    for each in metadata:
        first = max(each.prompt_len, each.unpenalised)
        seen, times = np.unique(each.tokens[first:], return_counts=True)
        s = each.sampling
        tokens.append(seen)
        amounts.append((-s.frequency_penalty * times - s.presence_penalty).astype(np.float32))
    _add(logits, rows, tokens, amounts)


def temper(logits: Tensor, rows: list[int], metadata: list[SamplingMetadata]) -> None:
    """Take the row's maximum off and divide by the temperature (at least 1e-5)."""
    temperatures = [max(each.sampling.temperature, _LOWEST_TEMPERATURE) for each in metadata]
    part = _take(logits, rows)
    # A row without any token left has maximum -inf, and must stay so instead of turning NaN.
    top = part.max(dim=-1, keepdim=True).values.clamp(min=torch.finfo(part.dtype).min)
    _put(logits, rows, part.sub_(top).div_(_column(temperatures, logits)))


def min_p(logits: Tensor, rows: list[int], metadata: list[SamplingMetadata]) -> None:
    """Rule out tokens less likely than `min_p` times the likeliest."""
    floor = _column([math.log(each.sampling.min_p) for each in metadata], logits)
    part = _take(logits, rows)
    top = part.max(dim=-1, keepdim=True).values
    _put(logits, rows, part.masked_fill_(part < top + floor, -torch.inf))


def top_k(logits: Tensor, rows: list[int], metadata: list[SamplingMetadata]) -> None:
    """Keep the k highest logits."""
    vocabulary = logits.shape[1]
    sizes = [min(each.sampling.top_k, vocabulary) for each in metadata]
    part = _take(logits, rows)
    ordered = part.topk(max(sizes), dim=-1).values
    _put(logits, rows, _keep(part, ordered, torch.tensor(sizes, device=logits.device)[:, None]))


def top_p(logits: Tensor, rows: list[int], metadata: list[SamplingMetadata]) -> None:
    """Keep the fewest highest logits whose probabilities sum to at least `top_p`.

    The sum runs over descending logits in float64, against `top_p` times the total of all. A row
    is sorted only where its first few thousand logits do not suffice.
    """
    part, left = logits[rows], torch.tensor(rows, device=logits.device)
    fraction = _column([each.sampling.top_p for each in metadata], logits).double()
    goal = fraction * _total(part)
    for count in (*_TOP_P_CANDIDATES, part.shape[1]):
        short = _keep_mass(logits, left, part, goal, min(count, part.shape[1]))
        if not short.any():
            break
        part, left, goal = part[short], left[short], goal[short]


def _total(logits: Tensor) -> Tensor:
    """Sums of exp(logit - max), float64 [rows, 1]."""
    top = logits.max(dim=-1, keepdim=True).values.clamp(min=torch.finfo(logits.dtype).min)
    return (logits - top).exp_().sum(dim=-1, keepdim=True, dtype=torch.float64)


def _keep_mass(logits: Tensor, rows: Tensor, part: Tensor, goal: Tensor, count: int) -> Tensor:
    """Cut the rows whose `count` highest logits reach the goal; says which did not, [rows]."""
    ordered = part.topk(count, dim=-1).values
    top = ordered[:, :1].clamp(min=torch.finfo(part.dtype).min)
    mass = torch.cumsum((ordered - top).exp(), dim=-1, dtype=torch.float64)
    # Summed in another order than the total, the whole may fall a rounding short of the goal.
    enough = (mass[:, -1:] >= goal)[:, 0] | (count == part.shape[1])
    sizes = ((mass < goal).sum(-1, keepdim=True) + 1).clamp(max=count)
    logits[rows[enough]] = _keep(part[enough], ordered[enough], sizes[enough])
    return ~enough


def _keep(part: Tensor, ordered: Tensor, sizes: Tensor) -> Tensor:
    """The rows with all but their `sizes` [rows, 1] highest logits ruled out.

    `ordered` holds the highest logits of each row in descending order, as many as are needed.
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


def _take(logits: Tensor, rows: list[int]) -> Tensor:
    """The rows (ascending, distinct): a copy, unless they are all."""
    return logits if len(rows) == len(logits) else logits[rows]


def _put(logits: Tensor, rows: list[int], part: Tensor) -> None:
    """Write back what `_take` gave, changed in place."""
    if part is not logits:
        logits[rows] = part


def _add(logits: Tensor, rows: list[int], tokens: list[Ints], amounts: list[Floats]) -> None:
    indexes = _flat_indexes(logits, rows, tokens)
    logits.view(-1)[indexes] += torch.from_numpy(np.concatenate(amounts)).to(logits.device)


def _flat_indexes(logits: Tensor, rows: list[int], tokens: list[Ints]) -> Tensor:
    """Where each row's tokens stand in the flattened logits; no place occurs twice."""
    width = logits.shape[1]
    flat = [row * width + ids for row, ids in zip(rows, tokens, strict=True)]
    return torch.from_numpy(np.concatenate(flat)).to(logits.device)


@dataclass(frozen=True, slots=True, kw_only=True)
class SamplingStep:
    """`apply(logits, rows, metadata)` changes these rows; `metadata[n]` is that of `rows[n]`."""

    wanted: Callable[[ResolvedSampling], bool]
    apply: Callable[[Tensor, list[int], list[SamplingMetadata]], None]


STEPS: tuple[SamplingStep, ...] = (
    SamplingStep(
        wanted=lambda s: s.structured_outputs is not None or s.thinking_token_budget is not None,
        apply=keep_masked,
    ),
    SamplingStep(wanted=lambda s: s.allowed_token_ids is not None, apply=allow),
    SamplingStep(wanted=lambda s: bool(s.bad_words), apply=ban_words),
    SamplingStep(wanted=lambda s: s.min_tokens > 0, apply=hold_stops),
    SamplingStep(wanted=lambda s: bool(s.logit_bias), apply=bias),
    SamplingStep(wanted=lambda s: s.repetition_penalty != 1.0, apply=repetition),
    SamplingStep(
        wanted=lambda s: s.frequency_penalty != 0.0 or s.presence_penalty != 0.0,
        apply=frequency_and_presence,
    ),
    SamplingStep(wanted=lambda s: s.temperature != 0.0, apply=temper),
    SamplingStep(wanted=lambda s: s.temperature != 0.0 and s.min_p > 0.0, apply=min_p),
    SamplingStep(wanted=lambda s: s.temperature != 0.0 and s.top_k > 0, apply=top_k),
    SamplingStep(wanted=lambda s: s.temperature != 0.0 and s.top_p < 1.0, apply=top_p),
)
