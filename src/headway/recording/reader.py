"""Reading recordings back, strictly: a line that is not one is an error that names it.

The exception is a line that was cut off because its engine's process ended in the middle of it: the
last one of the file, or the last before another engine took over. It is left out.

Tokens for a recorded request, which kept none: made up, but equal where the real ones were.

All that batching and prefix caching see of a text is which blocks are equal. So every full block is
made up from its digest, and what fills no block from the request's own number.
"""

from __future__ import annotations

import json
from collections.abc import Hashable, Iterator
from dataclasses import MISSING, dataclass, field, fields, is_dataclass
from functools import cache
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, TypeVar, cast, get_args, get_origin, get_type_hints

from headway.errors import InvalidRequest
from headway.recording.format import EngineLine, Line, Recording, RequestLine, SliceLine, StepLine

Built = TypeVar("Built")


def read_recordings(path: Path) -> list[Recording]:
    """The recordings of a file, one for each engine process that wrote to it, in their order.

    Raises `InvalidRequest` where it cannot be read or is no recording.
    """
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        raise InvalidRequest(f"cannot read {path}: {error.strerror}", field="record") from error
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
            line = parse(content)
        except (ValueError, RecursionError) as error:
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


def parse(content: str) -> Line:
    """One line; raises `ValueError` that says what is wrong with it."""
    data = json.loads(content)
    if not isinstance(data, dict) or len(data) != 1:
        raise ValueError("not an object with a single key")
    ((kind, value),) = data.items()
    if kind == "step":
        return _step(value)
    if kind == "request":
        return _build(RequestLine, value, kind)
    if kind == "engine":
        return _build(EngineLine, value, kind)
    raise ValueError(f"a line of unknown kind {kind!r}")


def _step(value: Any) -> StepLine:
    """A step's line; its slices by hand, since they are nearly all of a recording."""
    if not isinstance(value, dict):
        raise ValueError("step is not an object")
    rows = value.get("slices")
    if not isinstance(rows, list):
        raise ValueError("step.slices is not a list")
    slices = tuple(_slice(row) for row in rows)
    return _build(StepLine, {**value, "slices": slices}, "step")


def _slice(row: Any) -> SliceLine:
    if type(row) is list and len(row) == 4:
        seq, start, tokens, sample = row
        if type(seq) is type(start) is type(tokens) is int and type(sample) is bool:
            return SliceLine(seq, start, tokens, sample)
    raise ValueError("step.slices holds something that is no [seq, start, tokens, sample]")


def _build(kind: type[Built], value: Any, where: str) -> Built:
    """A dataclass from an object that has its fields and no others, each of its type."""
    if not isinstance(value, dict):
        raise ValueError(f"{where} is not an object")
    hints, needed = _shape(cast(Hashable, kind))
    for name in value:
        if name not in hints:
            raise ValueError(f"{where}.{name} is unknown")
    for name in needed:
        if name not in value:
            raise ValueError(f"{where}.{name} is missing")
    values = {name: _value(hints[name], each, f"{where}.{name}") for name, each in value.items()}
    return kind(**values)


@cache
def _shape(kind: type[Any]) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Types of a dataclass's fields, and the names of those without a default."""
    needed = tuple(
        each.name
        for each in fields(kind)
        if each.default is MISSING and each.default_factory is MISSING
    )
    return get_type_hints(kind), needed


def _value(kind: Any, value: Any, where: str) -> Any:
    """`value` as `kind`; raises `ValueError` where it is something else."""
    if kind is float and type(value) in (int, float):
        return float(value)
    if kind in (str, int, float, bool, NoneType):
        if type(value) is not kind:
            raise ValueError(f"{where} must be {kind.__name__}")
        return value
    if is_dataclass(kind):
        return _build(cast(type[Any], kind), value, where)
    return _compound(kind, value, where)


def _compound(kind: Any, value: Any, where: str) -> Any:
    origin, parts = get_origin(kind), get_args(kind)
    if origin is Literal:
        if value not in parts:
            raise ValueError(f"{where} must be one of {', '.join(parts)}")
        return value
    if origin is UnionType:
        (other,) = (part for part in parts if part is not NoneType)
        return None if value is None else _value(other, value, where)
    if parts[0] is SliceLine:
        return value
    if not isinstance(value, list):
        raise ValueError(f"{where} must be a list")
    return tuple(_value(parts[0], each, where) for each in value)


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
