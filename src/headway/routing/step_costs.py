"""What the parts of an engine's steps cost, in seconds: the step-time model in a few numbers.

A router weighs dozens of engines for each request, so it cannot ask the model about each of them.
For steps that compute prompts the model is a sum, nearly: these are its terms, found by asking it
about a few steps. Layers with a sliding window are reckoned as if they attended to nothing.
"""

from __future__ import annotations

from dataclasses import dataclass

from headway.steptime.model import StepTimeModel
from headway.steptime.shape import StepShape

_TOKENS = 4096
"""Of a prompt: enough for arithmetic to hide the reading of weights."""
_MANY = 1 << 20
"""Pairs, or positions, that are asked about at once."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StepCosts:
    """Seconds; those of a step that computes prompts add up."""

    least: float
    """The smallest step: one decode."""
    fixed: float
    """A step that computes prompts, without them."""
    token: float
    """Each token of a prompt ..."""
    pair: float
    """... and each product of its query with a key."""
    decode: float
    """Each decode beside them ..."""
    position: float
    """... and each position that it attends to."""

    def prefill(self, tokens: int, cached: int) -> float:
        """So many tokens of a prompt after so many that are cached, without their steps."""
        return self.token * tokens + self.pair * pairs_of(tokens, cached)

    def decodes(self, count: int, positions: int) -> float:
        """A step of so many decodes, which attend to so many positions in all."""
        return max(self.least, self.fixed + self.decode * count) + self.position * positions


GUESS = StepCosts(least=0.01, fixed=0.01, token=1e-4, pair=1e-10, decode=1e-4, position=1e-9)
"""Of an engine of which nothing is known: good for comparing it with its equals, and no more."""


def pairs_of(tokens: int, cached: int) -> float:
    """Contexts of so many tokens after so many others, summed."""
    return tokens * (2 * cached + tokens + 1) / 2


def step_costs(model: StepTimeModel) -> StepCosts:
    """The costs of a model's steps; some ten predictions."""

    def predict(tokens: int = _TOKENS, **more: int) -> float:
        return model.predict(StepShape(tokens=tokens, **{"sequences": 1, "rows": 1, **more}))

    alone = predict()
    token = max(0.0, (predict(2 * _TOKENS) - alone) / _TOKENS)
    two = {"tokens": _TOKENS + 1, "sequences": 2, "rows": 2, "decodes": 1}
    beside = predict(**two)
    return StepCosts(
        least=predict(1, decodes=1, decode_context=1),
        fixed=max(0.0, alone - _TOKENS * token),
        token=token,
        pair=max(0.0, (predict(prefill_pairs=_MANY) - alone) / _MANY),
        decode=max(0.0, beside - alone),
        position=max(0.0, (predict(**two, decode_context=_MANY) - beside) / _MANY),
    )
