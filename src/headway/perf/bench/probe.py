"""Probes: requests that make an engine take steps of all kinds, and a profile fitted to them.

The steps are those of real service (a client that sends, an engine that batches), so the model
learns whole cycles: one stream and many, short contexts and long, prompts whole, in chunks and
beside decodes. Which steps there are, the engine decides; here are only the workloads.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from itertools import islice
from pathlib import Path
from random import Random

from headway.config import EngineConfig
from headway.errors import EngineError
from headway.llm import AsyncLLM
from headway.perf.bench.engine_client import EngineLoadClient
from headway.perf.bench.run_load import run_load
from headway.perf.workload.workload import Segment, Workload, WorkloadRequest, vocabulary_tokens
from headway.recording.fitting import fit_recordings
from headway.recording.format import read_recordings
from headway.steptime.profiles import Profile
from headway.types import Limits

SECONDS = 45.0
"""How long probing takes, about."""
_LENGTHS = (130, 1, 700, 16, 1500, 5, 400, 48)
"""Of prompts of streams alone. Short and long in turns, so that neither has a moment of its own."""
_LONG = (3000, 6000)
_SHORT = (8, 30, 100, 200)
_LONG_ENOUGH = 32
"""Tokens of an answer: the first dozen steps after a prompt are slower than those that follow."""
_ALONE = 48
_NARROW = 200
"""Steps that one stream would make beyond what a wide batch makes, times five."""
_SPEED = 200.0
"""Tokens/s that are expected before anything was seen."""
_LARGEST_ID = 30_000

OnWorkload = Callable[[str], object]
"""Called with the name of each workload before it runs."""


async def probe(
    config: EngineConfig,
    *,
    seconds: float = SECONDS,
    on_workload: OnWorkload = lambda _: None,
    command: Sequence[str] | None = None,
) -> Profile:
    """The profile of the engine that these settings give; `command` replaces its program.

    Takes about `seconds` beside the start, however slow the machine: what would take longer than is
    left is passed over. Raises `HeadwayError` where the engine cannot run or did too little.
    """
    with tempfile.TemporaryDirectory(prefix="headway-probe-") as folder:
        path = Path(folder) / "steps.jsonl"
        # Requests that come at once are to run at once, whatever policy is served later.
        asked = replace(config, policy="continuous", record=str(path))
        llm = await AsyncLLM.start(asked, command=command)
        try:
            await run_probes(llm, seconds, on_workload)
        finally:
            await llm.close()
        return fit_recordings(read_recordings(path))


async def run_probes(llm: AsyncLLM, seconds: float, on_workload: OnWorkload) -> None:
    """Run the workloads on a started engine; raises `EngineError` where one of them fails."""
    info = llm.client.info
    high = max(2, min(llm.model_config.vocab_size, _LARGEST_ID))
    tokens = partial(vocabulary_tokens, low=min(100, high // 2), high=high)
    room = info.scheduler.num_blocks * info.scheduler.block_size
    end, speeds = time.monotonic() + seconds, [_SPEED]
    with EngineLoadClient(llm) as client:
        for number, workload in enumerate(probe_workloads(info.scheduler.limits, room)):
            size = workload.prompt_tokens + workload.output_tokens
            # One stream is slow and small: how long many take, the fastest so far tells.
            if number and size / max(speeds[1:] or speeds) > end - time.monotonic():
                continue
            on_workload(workload.name)
            result = await run_load(client, workload, tokens=tokens, label=f"probe-{number}")
            failed = [record.error for record in result.records if record.outcome != "ok"]
            if failed:
                raise EngineError(f"a probe of {workload.name} failed: {failed[0]}")
            if number:  # the first one warms up
                speeds.append(size / max(result.duration, 1e-6))


def probe_workloads(limits: Limits, room: int, *, seed: int = 0) -> Iterator[Workload]:
    """The workloads, in an order in which they may be cut short anywhere.

    Streams alone take turns with all else. A machine's speed wanders by a tenth within seconds, and
    what runs in one go would be known from one moment, as too fast or too slow against the rest.
    No request is longer than the limits allow, and no workload needs more than `room` tokens of KV
    cache.
    """
    make = _WorkloadMaker(limits, room, seed)
    yield make("a first stream", [(50, 20)])
    alone = _alone(make, _LENGTHS)
    for workload in _many(make, limits.max_num_seqs):
        yield workload
        yield from islice(alone, 1)
    yield from alone
    yield from _alone(make, _LONG)


def _alone(make: _WorkloadMaker, lengths: Sequence[int]) -> Iterator[Workload]:
    """One stream, after a prompt of each length."""
    for length in lengths:
        yield make(f"one stream after {length} tokens", [(length, _ALONE)])


def _many(make: _WorkloadMaker, most: int) -> Iterator[Workload]:
    """Streams at once, and prompts beside streams."""
    widths = _widths(most)
    # From far apart to close together, so that little time still spans the range.
    coarse = widths[::3]
    for width in [*coarse, *(width for width in widths if width not in coarse)]:
        # Narrow steps are short and, in service, many: their share of the time is not to be small.
        steps = 8 + _NARROW // (width + 4)
        sizes = [(make.pick(_SHORT), make.pick(range(steps, steps + 8))) for _ in range(width)]
        yield make(f"{width} streams", sizes)
        if width == coarse[-1]:
            yield from _concurrent(make)


def _concurrent(make: _WorkloadMaker) -> Iterator[Workload]:
    """Prompts that come while others decode, and many streams with long contexts."""
    for streams, output, gap in ((6, 100, 0.1), (24, 60, 0.2)):
        late = [(make.pick((20, 60, 150, 350)), _LONG_ENOUGH) for _ in range(12)]
        sizes = [(40, output)] * streams + late
        yield make(f"prompts beside {streams} streams", sizes, first=streams, gap=gap)
    for width, length in ((4, 1200), (12, 600), (32, 350)):
        yield make(f"{width} streams after {length} tokens", [(length, _LONG_ENOUGH)] * width)


class _WorkloadMaker:
    """Makes workloads that an engine can hold; its segments are all different."""

    def __init__(self, limits: Limits, room: int, seed: int) -> None:
        self._longest = limits.max_model_len
        self._room = room
        self._random = Random(seed)  # noqa: S311
        self._segments = 0

    def pick(self, choices: Sequence[int]) -> int:
        return self._random.choice(choices)

    def __call__(
        self, name: str, sizes: Sequence[tuple[int, int]], *, first: int = 0, gap: float = 0.0
    ) -> Workload:
        """Requests of (prompt, output) tokens, as many as have room.

        The `first` ones come at once and the others `gap` seconds apart.
        """
        requests: list[WorkloadRequest] = []
        left = self._room
        for number, (prompt, output) in enumerate(sizes):
            output = max(1, min(output, self._longest - 1))  # noqa: PLW2901
            prompt = max(1, min(prompt, self._longest - output))  # noqa: PLW2901
            left -= prompt + output + 1
            if left < 0 and requests:
                break
            self._segments += 1
            at = max(0, number + 1 - first) * gap
            segment = Segment(seed=self._segments, length=prompt)
            requests.append(WorkloadRequest(segments=(segment,), output=output, cap=output, at=at))
        return Workload(name=name, requests=tuple(requests))


def _widths(most: int) -> list[int]:
    """1, 2, 3, ... up to `most`, each about a quarter more than the one before."""
    found = [1]
    while found[-1] < most:
        found.append(min(most, found[-1] + max(1, found[-1] // 4)))
    return found
