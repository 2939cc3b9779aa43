"""Reading recordings back, strictly: a line that is not one is an error that names it.

The exception is a line that was cut off because its engine's process ended in the middle of it: the
last one of the file, or the last before another engine took over. It is left out.

Also makes tokens for a recorded request, which kept none: equal where the real ones were. All that
batching and prefix caching see of a text is which blocks are equal, so every full block is made up
from its digest, and what fills no block from the request's own number.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType

from headway import codec
from headway.codec import decode_document, read_bytes, single
from headway.errors import InvalidRequest
from headway.recording.format import (
    ENGINE_FORMAT,
    EngineLine,
    Line,
    Recording,
    RequestLine,
    StepLine,
)


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
