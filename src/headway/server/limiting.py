"""What the log says of the batch: objectives that cannot be held, and what limits it from now on.

An objective that not even the easiest request keeps is told at the start. A change of the limiting
factor is told with its cause, once it has lasted: traffic wavers, and so does what limits it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator

from headway.background import watched
from headway.logs import Event, line
from headway.server.logs import log
from headway.server.slo import Explainer
from headway.steptime.causes import cause_of
from headway.steptime.explanation import Explanation, LimitingFactor, Situation
from headway.types import SERVICE_CLASSES

INTERVAL = 2.0
"""Seconds between two looks."""
LASTING = 5
"""So many looks in a row must agree before a change counts."""


NoteChange = Callable[[LimitingFactor | None, LimitingFactor, str | None], None]
"""Told which factor limited the batch, which one does now, and why."""


class LimitingFactorLog:
    """Told of every look; says what to log of it, and notes it."""

    def __init__(self, note: NoteChange = lambda *_: None) -> None:
        self._note = note
        self._said: LimitingFactor | None = None
        self._then: Situation | None = None
        """The last situation in which the factor that was said did limit the batch."""
        self._other: LimitingFactor | None = None
        self._looks = 0

    def see(self, situation: Situation, explanation: Explanation) -> Event | None:
        """The line of a change that has lasted; None otherwise."""
        found = explanation.limiting_factor
        if found == self._said:
            self._then, self._looks = situation, 0
            return None
        self._looks = self._looks + 1 if found == self._other else 1
        self._other = found
        if self._looks < LASTING:
            return None
        cause = None
        if self._then is not None and self._said is not None:
            cause = cause_of(self._then, situation, self._said)
        because = None if cause is None else str(cause)
        self._note(self._said, found, because)
        said = line(
            "limiting_factor",
            **{"from": self._said},
            to=found,
            because=because,
            width=explanation.width,
            requests_per_second=explanation.requests_per_second,
        )
        self._said, self._then, self._looks = found, situation, 0
        return said


def unheld_lines(explainer: Explainer) -> Iterator[Event]:
    """A line for every objective that cannot be held, with the nearest that can."""
    for each in explainer.unheld():
        advice = "no batch size holds this objective here: requests held to it will be late"
        yield line("objective_unheld", asked=each.asked, nearest=each.nearest, advice=advice)


def reach_lines(explainer: Explainer) -> Iterator[Event]:
    """A line for every class with an objective for TTFT that long prompts cannot keep."""
    for name in SERVICE_CLASSES:
        longest = explainer.longest_prompt(name)
        if longest is not None and longest < explainer.most_prompt:
            yield line("ttft_reach", service_class=name, longest_prompt=longest)


def watch_limiting_factor(explainer: Explainer) -> asyncio.Task[None]:
    """Log what cannot be held, and from now on every change, until the task is cancelled."""
    for each in unheld_lines(explainer):
        log.warning(each)
    for each in reach_lines(explainer):
        log.info(each)
    return watched(
        _watch(explainer),
        name="headway-limiting-factor",
        on_failure=lambda _: None,  # It is in `/slo` and in the metrics as well.
    )


async def _watch(explainer: Explainer) -> None:
    seen = LimitingFactorLog(explainer.note_change)
    while True:
        await asyncio.sleep(INTERVAL)
        try:
            situation, explanation = explainer.situation(), explainer.explanation()
            if situation is None or explanation is None:
                continue
            found = seen.see(situation, explanation)
        except Exception:  # an explanation is not worth the task: the next look may do
            log.exception(line("error", task="limiting factor"))
            continue
        if found is not None:
            log.info(found)
