"""What every runner answers with: a step that is done, and the errors of single sequences."""

from __future__ import annotations

from dataclasses import dataclass

from headway.types import StepResult

NOT_FINITE = "the model's scores were not finite"
NOTHING_LEFT = "the sampling parameters leave no token to choose"


@dataclass(frozen=True, slots=True, kw_only=True)
class Computed:
    """A step that has been computed by the time it is asked for."""

    answer: StepResult

    def result(self) -> StepResult:
        return self.answer
