"""A recording as text: the form in which lines are written, and whole recordings as files.

A line is an object with one key, which says what kind it is. An engine turns lines into plain data
here and encodes them as it likes; `write_recordings` keeps recordings that were made elsewhere, by
a simulation or a test. Knows nothing of engines.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeAlias

from headway.recording.lines import EngineLine, Recording, RequestLine, StepLine

Line: TypeAlias = EngineLine | RequestLine | StepLine


def plain(line: Line) -> dict[str, dict[str, Any]]:
    """A line as what JSON knows: `{"step": {...}}`, `{"request": {...}}` or `{"engine": {...}}`."""
    if isinstance(line, StepLine):
        # By hand: `asdict` would copy every slice, and a line is written for every step.
        return {
            "step": {
                "step": line.step,
                "at": line.at,
                "cycle": line.cycle,
                "run": line.run,
                "slices": line.slices,
                "ended": line.ended,
                "idle_slots": line.idle_slots,
                "waiting": line.waiting,
            }
        }
    return {"request" if isinstance(line, RequestLine) else "engine": asdict(line)}


def lines_of(recording: Recording) -> Iterator[Line]:
    """The recording's lines as an engine writes them: a request's before that of its last step."""
    yield recording.engine
    requests = list(reversed(recording.requests))
    for step in recording.steps:
        while requests and requests[-1].end_step <= step.step:
            yield requests.pop()
        yield step
    yield from reversed(requests)


def write_recordings(path: Path, recordings: Iterable[Recording]) -> None:
    """Write a file that `read_recordings` reads back; raises `OSError`."""
    with path.open("w", encoding="utf-8") as file:
        for recording in recordings:
            for line in lines_of(recording):
                file.write(json.dumps(plain(line), separators=(",", ":")) + "\n")
