"""Step times that are known from the start, for simulations in which nothing is to be learned."""

from __future__ import annotations

from headway.steptime.profiles import Profile
from headway.steptime.shape import StepShape


class KnownStepTimes:
    """A profile's own step times, as `headway.steptime.online.StepTimes`."""

    def __init__(self, profile: Profile, *, margin: float = 1.1) -> None:
        self._model = profile.step_times()
        self._margin = margin
        self.window = profile.sizes.window

    def predict(self, shape: StepShape) -> float:
        return self._model.predict(shape)

    def bound(self, shape: StepShape) -> float:
        return self._margin * self._model.predict(shape)

    def learn(self, shape: StepShape, seconds: float) -> None:
        """It knows already."""
