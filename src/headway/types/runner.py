"""The waist as seen from above: whoever computes a step is a `Runner`.

The engine submits a `StepPlan` and collects a `StepResult`; a torch runner, a simulated one and a
test's fake all stand behind these two methods. Nothing else crosses.
"""

from __future__ import annotations

from typing import Protocol

from headway.types.step import StepPlan, StepResult


class Pending(Protocol):
    """A step under way."""

    def result(self) -> StepResult:
        """Wait for the step to end. Errors that concern the whole step are raised here."""
        ...


class Runner(Protocol):
    """Computes steps in the order in which they are submitted."""

    def submit(self, plan: StepPlan) -> Pending:
        """Start a step. The plan's lists stay unchanged until `result` has returned."""
        ...
