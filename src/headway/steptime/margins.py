"""A step-time model with margins: what few steps exceed, as well as what is expected of them.

The form in which the model that an engine plans with can be told to others, and used by them.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from headway.steptime.model import Residuals, StepTimeModel, regime
from headway.steptime.shape import StepShape


@dataclass(frozen=True, slots=True, kw_only=True)
class Margins:
    """Factors on predictions, by regime; at least 1."""

    decode: float = 1.0
    mixed: float = 1.0
    prefill: float = 1.0


NO_MARGINS = Margins()


@dataclass(frozen=True, slots=True)
class BoundedModel:
    """A `headway.steptime.sizing.Predictor`."""

    model: StepTimeModel
    margins: Margins = field(default=NO_MARGINS)

    @property
    def window(self) -> int | None:
        return self.model.sizes.window

    def predict(self, shape: StepShape) -> float:
        return self.model.predict(shape)

    def bound(self, shape: StepShape) -> float:
        margin: float = getattr(self.margins, regime(shape))
        return self.model.predict(shape) * margin


def margins_of(residuals: Residuals, share: float, most: float = 1.5) -> Margins:
    """Factors that this share (0 to 1) of the steps did not exceed, from 1 to `most`."""

    def margin(name: str) -> float:
        points = getattr(residuals, name)
        return max(1.0, min(most, residuals.quantile(name, share))) if points else 1.0  # type: ignore[arg-type]

    return Margins(decode=margin("decode"), mixed=margin("mixed"), prefill=margin("prefill"))
