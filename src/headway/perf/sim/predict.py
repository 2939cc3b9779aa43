"""A recorded run, predicted: the same arrivals through the simulator, beside what was measured.

Both sides are seen from the engine: a token comes when the step that gave it is over, so neither
has the client's or the server's share. Prompts keep the prefixes that they shared.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace

from headway.perf.records.record import RequestRecord
from headway.perf.sim.simulate import Setup, Simulated, simulate
from headway.perf.workload.workload import Segment, Workload, WorkloadRequest
from headway.recording.format import Recording, RequestLine
from headway.steptime.profiles import Profile

_DIGESTS = 2**41
"""Segment seeds from here on stand for recorded blocks, those below for single requests."""


def recorded_setup(recording: Recording, profile: Profile) -> Setup:
    """The engine that was recorded, with steps as long as the profile says."""
    return Setup(profile=profile, scheduler=recording.engine.scheduler)


def recorded_workload(recording: Recording) -> Workload:
    """The requests that got a token, at their arrivals after the first one's."""
    lines = list(_answered(recording))
    start = min((line.arrival for line in lines), default=0.0)
    return Workload(
        name=f"recording of {recording.engine.model}",
        requests=tuple(
            WorkloadRequest(
                segments=_segments(line, recording.engine.scheduler.block_size),
                output=line.output_tokens - line.resumed,
                cap=_cap(line),
                at=line.arrival - start,
            )
            for line in lines
        ),
    )


def predict(
    recording: Recording, profile: Profile, *, seed: int = 0, residuals: bool = True
) -> Simulated:
    """What the simulator makes of the recorded requests."""
    return simulate(
        recorded_workload(recording),
        recorded_setup(recording, profile),
        seed=seed,
        residuals=residuals,
        keep_bars=True,
    )


@dataclass(slots=True)
class _Tokens:
    times: list[float] = field(default_factory=list)
    """When each token came."""
    start: int | None = None
    """Where its first slice began: after what the prefix cache had."""


def measured(recording: Recording) -> tuple[tuple[RequestRecord, ...], float, Mapping[int, int]]:
    """What was recorded: a record for each request, the duration in seconds, and how often each
    time between tokens (whole microseconds) occurred."""
    seen = {line.seq: _Tokens() for line in recording.requests if line.seq}
    for step in recording.steps:
        for piece, given in step.outputs():
            if piece.seq in seen:
                one = seen[piece.seq]
                one.start = piece.start if one.start is None else one.start
                one.times += [step.at + step.cycle] * given
    lines = [line for line in _answered(recording) if seen[line.seq].times]
    start = min((line.arrival for line in lines), default=0.0)
    gaps: Counter[int] = Counter()
    records = []
    for line in lines:
        one = seen[line.seq]
        # Of drafts that were right, those after a stop token are nobody's.
        del one.times[line.output_tokens - line.resumed :]
        record = RequestRecord(
            id=line.id,
            due=line.arrival - start,
            sent=line.arrival - start,
            prompt_tokens=line.prompt_tokens + line.resumed,
            output_tokens=len(one.times),
            cached_tokens=one.start or 0,
        ).with_times(one.times, sent=line.arrival)
        gaps.update(round(gap * 1e6) for gap in record.itls)
        records.append(replace(record, itls=()))
    end = max((seen[line.seq].times[-1] for line in lines), default=start)
    return tuple(records), end - start, gaps


def _answered(recording: Recording) -> Iterator[RequestLine]:
    lines = (line for line in recording.requests if line.seq)
    for line in sorted(lines, key=lambda line: (line.arrival, line.seq)):
        if line.output_tokens > line.resumed:
            yield line


def _segments(line: RequestLine, block_size: int) -> tuple[Segment, ...]:
    """Prompt, and what an earlier engine had generated, by its blocks."""
    length = line.prompt_tokens + line.resumed
    blocks = [
        Segment(_DIGESTS + int(digest, 16) % _DIGESTS, block_size)
        for digest in line.hashes[: length // block_size]
    ]
    left = length - len(blocks) * block_size
    return (*blocks, Segment(line.seq, left)) if left else tuple(blocks)


def _cap(line: RequestLine) -> int:
    """What its caller allowed; no more than came where the scheduler knew how much would."""
    came = line.output_tokens - line.resumed
    return max(came, line.max_tokens - line.resumed) if line.stops else came
