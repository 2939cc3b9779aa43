"""What an engine recorded of a measured run: who sat where, and how near it was to its limits.

The recording also has the requests that warmed the engine up; they are told apart by their ids.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from headway.errors import EngineError
from headway.perf.records.record import RequestRecord
from headway.perf.report.run import Bar
from headway.perf.report.slots import bars_of, idle_share_of, percent_of_limit
from headway.recording.format import Recording
from headway.recording.reader import read_recordings

PATIENCE = 5.0
"""Seconds that an engine gets to write the end of its recording."""


@dataclass(frozen=True, slots=True, kw_only=True)
class InProcessRun:
    """What a recording says of a run; fields as those of a `Run`."""

    slots: int
    bars: tuple[Bar, ...]
    idle_share: float | None
    percent_of_limit: float | None


async def recorded(path: Path, label: str, requests: int) -> Recording:
    """The part of the recording at `path` that concerns the requests of which the id starts so.

    Waits until the engine, which has nothing else to do, has written all of them; raises
    `EngineError` if it does not.
    """
    deadline = time.monotonic() + PATIENCE
    while True:
        found = part(read_recordings(path)[-1], label)
        # The last step is written when it is certain that nothing follows.
        ends = max((request.end_step for request in found.requests), default=0)
        if len(found.requests) == requests and (not found.steps or found.steps[-1].step >= ends):
            return found
        if time.monotonic() > deadline:
            raise EngineError(
                f"the engine recorded {len(found.requests)} of {requests} requests that ended"
            )
        await asyncio.sleep(0.05)


def part(recording: Recording, label: str) -> Recording:
    """The requests whose ids start with `label`, and the steps from the first of them on."""
    requests = tuple(request for request in recording.requests if request.id.startswith(label))
    first = min((request.step for request in requests if request.seq), default=None)
    steps = () if first is None else tuple(s for s in recording.steps if s.step >= first)
    return Recording(engine=recording.engine, requests=requests, steps=steps)


def run_in_process(recording: Recording, records: Sequence[RequestRecord]) -> InProcessRun:
    """Slots, bars on the clock of the records, and shares."""
    slots, bars = bars_of(recording, _origin(recording, records))
    return InProcessRun(
        slots=slots,
        bars=bars,
        idle_share=idle_share_of(bars, slots),
        percent_of_limit=percent_of_limit(recording),
    )


def _origin(recording: Recording, records: Sequence[RequestRecord]) -> float | None:
    """The records' zero on the engine's clock: the first request left and arrived together."""
    if not recording.requests or not records:
        return None
    arrival = min(request.arrival for request in recording.requests)
    return arrival - min(record.sent for record in records)
