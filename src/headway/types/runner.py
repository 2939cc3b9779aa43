"""What the engine needs of whatever computes its steps: runners on the native kernels, on PyTorch,
simulated ones and fakes in tests all stand behind this one method.
"""

from __future__ import annotations

from typing import Protocol

from headway.types.step import StepPlan, StepResult


class Runner(Protocol):
    """Computes steps, one after the other."""

    def compute(self, plan: StepPlan) -> StepResult:
        """Compute a step; returns when it is done. The plan's lists must not change meanwhile.

        What concerns one sequence is an error in its `Sampled`; what concerns the whole step is
        raised.
        """
        ...
