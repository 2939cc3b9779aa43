"""How well does the model that learns while it serves predict the steps of a recording?

The steps of each engine of a recording (`--record`) are predicted one by one, and learned after
that. Told are the errors before and after the first thousand steps, by regime, after each change of
load (the mean tokens of steps doubled or halved), and how many steps took longer than their bound.
Beside the errors stand those of a fit to the very same steps, which knew them all beforehand.

    python benchmarks/online_model.py steps.jsonl --out results.json

With `--joined` all recordings are taken for one engine's life, in their order: each new one is a
change of load.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from headway.recording.fitting import fit_recordings, measured_steps
from headway.recording.format import Recording, read_recordings
from headway.steptime.fit import STALL
from headway.steptime.model import REGIMES, Regime, StepTimeModel, interpolated, regime
from headway.steptime.online import MISS_RATE, OnlineStepTimes
from served import about_this_machine

EARLY = 1000
SPAN = 100
"""Steps over which the load is averaged, and that count as those after a change."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Predicted:
    """A step as it turned out, beside what was predicted."""

    regime: Regime
    tokens: int
    seconds: float
    online: float
    bound: float
    offline: float

    @property
    def stalled(self) -> bool:
        return self.seconds > STALL * self.online


def replayed(
    recordings: Sequence[Recording], miss_rate: float
) -> tuple[list[Predicted], OnlineStepTimes]:
    """Every step, predicted before it was learned; and the model in the end.

    The fit to the same steps is each recording's own.
    """
    profiles = [fit_recordings([recording]) for recording in recordings]
    times = OnlineStepTimes(profiles[0].sizes, profiles[0].machine, miss_rate=miss_rate)
    found = []
    for recording, profile in zip(recordings, profiles, strict=True):
        found += _predicted(recording, profile.step_times(), times)
    return found, times


def _predicted(
    recording: Recording, offline: StepTimeModel, times: OnlineStepTimes
) -> list[Predicted]:
    found = []
    for shape, seconds in measured_steps(recording):
        found.append(
            Predicted(
                regime=regime(shape),
                tokens=shape.tokens,
                seconds=seconds,
                online=times.predict(shape),
                bound=times.bound(shape),
                offline=offline.predict(shape),
            )
        )
        times.learn(shape, seconds)
    return found


def errors(steps: Sequence[Predicted]) -> dict[str, object]:
    """Mean and 95th percentile of |predicted / measured - 1|, and the share of misses."""
    kept = [step for step in steps if not step.stalled]
    if not kept:
        return {"steps": 0}
    online = sorted(abs(step.online / step.seconds - 1.0) for step in kept)
    offline = sorted(abs(step.offline / step.seconds - 1.0) for step in kept)
    total = sum(step.seconds for step in kept)
    return {
        "steps": len(kept),
        "mean": sum(online) / len(online),
        "p95": interpolated(online, 0.95),
        "mean, weighted by time": sum(abs(s.online - s.seconds) for s in kept) / total,
        "misses": sum(step.seconds > step.bound for step in kept) / len(kept),
        "mean margin": sum(step.bound / step.online for step in kept) / len(kept),
        "fit to the same steps": {
            "mean": sum(offline) / len(offline),
            "p95": interpolated(offline, 0.95),
        },
    }


def after_changes(steps: Sequence[Predicted]) -> list[Predicted]:
    """The steps after each change of load, of those beyond the first thousand."""
    found: list[Predicted] = []
    load = 0.0
    for first in range(0, len(steps), SPAN):
        span = steps[first : first + SPAN]
        before, load = load, sum(step.tokens for step in span) / len(span)
        if first >= EARLY and not before / 2 < load < before * 2:
            found += span
    return found


def evaluate(recordings: Sequence[Recording], miss_rate: float) -> dict[str, object]:
    began = time.perf_counter()
    steps, times = replayed(recordings, miss_rate)
    status = times.status
    return {
        "model": recordings[0].engine.model,
        "recordings": len(recordings),
        "replayed in seconds": time.perf_counter() - began,
        "wanted misses": miss_rate,
        "stalls": status.stalls,
        "first 20 steps": errors(steps[:20]),
        "steps 20 to 1000": errors(steps[20:EARLY]),
        "after 1000 steps": errors(steps[EARLY:]),
        "after changes of load": errors(after_changes(steps)),
        "regimes, after 100 steps": {
            name: errors([step for step in steps[100:] if step.regime == name]) for name in REGIMES
        },
        "coefficients": asdict(status.coefficients),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("recording", type=Path, nargs="+")
    parser.add_argument("--joined", action="store_true", help="one life, not one for each engine")
    parser.add_argument("--miss-rate", type=float, default=MISS_RATE)
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    engines = [each for path in given.recording for each in read_recordings(path)]
    lives = [engines] if given.joined else [[each] for each in engines]
    found = [evaluate(each, given.miss_rate) for each in lives]
    print(json.dumps(found, indent=1))
    if given.out:
        record = about_this_machine() | {"engines": found}
        given.out.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
