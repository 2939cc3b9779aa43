"""A recording: what an engine did, as lines of JSON. Times are seconds on the engine's clock.

A file starts with an engine line, and has another one wherever a new engine process took over. A
request's line is written when it has ended, a step's when the next begins. A line is an object with
one key, which says what kind it is. Sizes are tokens.

Reading is strict: a line that is not one is an error that names it. The exception is a line that
was cut off because its engine's process ended in the middle of it: the last one of the file, or the
last before another engine took over. It is left out.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple, TypeAlias

from headway import codec
from headway.codec import Format, decode_document, encode, read_bytes, single, versioned
from headway.errors import InvalidRequest
from headway.steptime.shape import ModelSizes, PeakRates, StepShape, shape_of
from headway.types import FinishReason, ServiceClass, Slice
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
    done: float = 0.0
    """When its result was there, in full: deadlines are reckoned from it. 0 in a recording
    of an earlier version."""

    def outputs(self) -> Iterator[tuple[SliceLine, int]]:
        """Every slice with the number of tokens that it gave; one that failed counts as one."""
        given = iter(self.given)
        for part in self.slices:
            yield part, next(given) if part.outputs > 1 else part.outputs

    def shape(self, window: int | None) -> StepShape:
        """As `shape_of` the plan; `window` is the model's sliding window, None if it has none."""
        slices = [
            Slice(seq=p.seq, start=p.start, tokens=range(p.tokens), blocks=(), outputs=p.outputs)
            for p in self.slices
        ]
        return shape_of(slices, window)


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
    tenant: str = ""
    caller: str = ""
    objectives: str = ""
    """As `parse_objectives` reads them; empty where it had none."""
    service_class: ServiceClass = "standard"
    aborted_after: int | None = None
    """The last request that was added before this one was aborted; None where it was not, or in a
    recording of an earlier version."""
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


def read_recordings(path: Path) -> list[Recording]:
    """The recordings of a file, one for each engine process that wrote to it, in their order.

    Raises `InvalidRequest` where it cannot be read or is no recording.
    """
    text = read_bytes(path).decode("utf-8", errors="replace")
    found: list[_Growing] = []
    for number, line in _lines(text, path):
        if isinstance(line, EngineLine):
            found.append(_Growing(engine=line))
        elif not found:
            raise InvalidRequest(
                f"{path}, line {number}: a recording starts with an engine line", field="record"
            )
        elif isinstance(line, StepLine):
            found[-1].steps.append(line)
        else:
            found[-1].requests.append(line)
    if not found:
        raise InvalidRequest(f"{path} holds no recording", field="record")
    return [each.finished() for each in found]


@dataclass(slots=True, kw_only=True)
class _Growing:
    """A recording of which lines are still being read."""

    engine: EngineLine
    requests: list[RequestLine] = field(default_factory=list)
    steps: list[StepLine] = field(default_factory=list)

    def finished(self) -> Recording:
        return Recording(engine=self.engine, requests=tuple(self.requests), steps=tuple(self.steps))


def _lines(text: str, path: Path) -> Iterator[tuple[int, Line]]:
    """Every line with its number, from 1; one that was cut off is passed over."""
    bad: tuple[int, Exception] | None = None
    for number, content in enumerate(text.split("\n"), 1):
        if not content:
            continue
        try:
            line = parse(content, f"{path}, line {number}")
        except ValueError as error:
            if bad is not None:
                break
            bad = number, error
            continue
        if bad is not None and not isinstance(line, EngineLine):
            break
        bad = None
        yield number, line
    else:
        return
    number, reason = bad
    raise InvalidRequest(f"{path}, line {number}: {reason}", field="record") from reason


def parse(content: str, source: str) -> Line:
    """One line; raises `ValueError` that says what is wrong with it.

    An engine's line of another version is an `InvalidRequest` that begins with `source`.
    """
    kind, value = single(content)
    if kind == "engine":
        return decode_document(EngineLine, value, ENGINE_FORMAT, source)
    if kind not in _KINDS:
        raise ValueError(f"a line of unknown kind {kind!r}")
    line = codec.parse(_KINDS[kind], value)
    if isinstance(line, StepLine) and len(line.given) != sum(s.outputs > 1 for s in line.slices):
        raise ValueError("given: not one for each slice of several outputs")
    return line


_KINDS: Mapping[str, type[StepLine | RequestLine]] = MappingProxyType(
    {"step": StepLine, "request": RequestLine}
)


_ROOM = 256  # for the places in a block, of which the largest has 128
_LOOSE = 2**62
_LONGEST = 2**24


def recorded_tokens(request: RequestLine, block_size: int) -> tuple[int, ...]:
    """All tokens of a request, prompt and generated: below 2**63, so that they can be hashed.

    Blocks with equal digests are equal, others differ in every place, and tokens beyond the last
    full block are nobody else's.
    """
    length = request.prompt_tokens + request.output_tokens
    tokens: list[int] = []
    for digest in request.hashes[: length // block_size]:
        first = int(digest, 16) % (_LOOSE // _ROOM) * _ROOM
        tokens += range(first, first + block_size)
    own = _LOOSE + request.seq * _LONGEST
    tokens += range(own + len(tokens), own + length)
    return tuple(tokens)
