"""A recording: what an engine did, as lines of JSON. Times are seconds on the engine's clock.

A file starts with an engine line, and has another one wherever a new engine process took over. A
request's line is written when it has ended, a step's when the next begins. A line is an object with
one key, which says what kind it is. Sizes are tokens.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, TypeAlias

from headway.codec import Format, encode, replacing, versioned
from headway.steptime.shape import ModelSizes, PeakRates
from headway.types import FinishReason
from headway.types.engine import Hardware, SchedulerConfig


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineLine:
    """Who computed, and under which settings."""

    model: str
    hardware: Hardware
    scheduler: SchedulerConfig
    sizes: ModelSizes
    machine: PeakRates | None = None
    """None where the machine was never measured."""


class SliceLine(NamedTuple):
    """A slice without its tokens and blocks."""

    seq: int
    start: int
    tokens: int
    outputs: int


@dataclass(frozen=True, slots=True, kw_only=True)
class StepLine:
    """One step. Sequences are numbered in the order in which requests were added, from 1."""

    step: int
    at: float
    """When it was planned."""
    cycle: float
    """Until the next one was planned, or, with nothing left to do, until it was over."""
    run: float
    """Part of the cycle that the runner took."""
    slices: tuple[SliceLine, ...]
    ended: tuple[int, ...] = ()
    """Sequences that had left since the step before."""
    given: tuple[int, ...] = ()
    """Tokens that each slice with several outputs gave, those of drafts included, in their order.
    Every other slice gives one for its output, or none."""
    idle_slots: int = 0
    waiting: int = 0

    def outputs(self) -> Iterator[tuple[SliceLine, int]]:
        """Every slice with the number of tokens that it gave; one that failed counts as one."""
        given = iter(self.given)
        for part in self.slices:
            yield part, next(given) if part.outputs > 1 else part.outputs


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestLine:
    """One request, from its arrival in the engine to its end."""

    id: str
    seq: int
    """0 for one that was refused."""
    arrival: float
    step: int
    """The first step that was planned after it was added."""
    end_step: int
    """The step that ended it, or after which it was aborted; 0 for one that was refused."""
    prompt_tokens: int
    resumed: int
    """Tokens that an earlier engine had generated."""
    output_tokens: int
    """All that were generated, those of an earlier engine included."""
    max_tokens: int
    stops: bool
    """It had stop tokens, so that its length was not known."""
    finish: FinishReason
    prompt_logprobs: bool = False
    """It wanted those of its prompt, which then is computed and never taken from the cache."""
    priority: int = 0
    group: str = ""
    hashes: tuple[str, ...] = ()
    """Digests (hexadecimal, 16 characters) of its full blocks, prompt and generated: equal ones are
    equal blocks after equal beginnings. Empty where no prefixes are shared."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Recording:
    """One engine process's life."""

    engine: EngineLine
    requests: tuple[RequestLine, ...]
    """By their end."""
    steps: tuple[StepLine, ...]


Line: TypeAlias = EngineLine | RequestLine | StepLine


ENGINE_FORMAT = Format(
    what="a recording of Headway",
    key="version",
    version=2,
    unnumbered=1,
    remedy="record again (`headway serve --record`) with this version",
)
"""Of an engine's line, and so of all lines that follow it."""


def encode_line(line: Line) -> bytes:
    """`{"step": {...}}`, `{"request": {...}}` or `{"engine": {...}}`, with the line's end."""
    if isinstance(line, StepLine):
        return encode({"step": line}) + b"\n"
    if isinstance(line, RequestLine):
        return encode({"request": line}) + b"\n"
    return encode({"engine": versioned(line, ENGINE_FORMAT)}) + b"\n"


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
    """Write a file that `read_recordings` reads back; raises `InvalidRequest`."""
    with replacing(path) as file:
        for recording in recordings:
            file.writelines(map(encode_line, lines_of(recording)))
