"""Files that Headway keeps: strict reading, encoding, versions, and writing whole or not at all.

JSON, and JSON Lines, of frozen dataclasses. msgspec checks types but passes over unknown keys of a
dataclass, so each one is read through a struct made from its fields that refuses them. Whatever is
wrong is one line that names the file (and the line in it), the place and the reason.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import MISSING, dataclass, fields, is_dataclass
from functools import cache
from pathlib import Path
from types import UnionType
from typing import (
    Annotated,
    Any,
    BinaryIO,
    Literal,
    TypeVar,
    Union,
    get_args,
    get_origin,
    get_type_hints,
)

import msgspec

from headway.errors import InvalidRequest

T = TypeVar("T")

KEY = "key"
"""Of a dataclass field's metadata: what the field is called in files, where that is not its name.
Reading and terse writing go by it."""
Count = Annotated[int, msgspec.Meta(ge=0)]
"""A field's type: a whole number that is not negative."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Format:
    """A kind of file, known by a key of its object whose value is the version of the format."""

    what: str
    """Such as "a profile of Headway"."""
    key: str
    version: int
    remedy: str
    """What to do about a file of another version."""
    unnumbered: int | None = None
    """The version of a file without the key; None: such a file is something else."""

    def check(self, version: object, source: str) -> None:
        """Raise `InvalidRequest` unless a file with this value at the key can be read."""
        version = self.unnumbered if version is None else version
        if version is None:
            raise InvalidRequest(f"{source} is not {self.what}", field=self.key)
        if version != self.version:
            raise InvalidRequest(
                f"{source} has version {version!r} of the format and this Headway reads "
                f"{self.version}: {self.remedy}",
                field=self.key,
            )


def parse(kind: type[T], data: bytes | str) -> T:
    """JSON as a dataclass (or what else msgspec knows); raises `ValueError` that names the place.

    Keys that are unknown, missing or hold another type are errors, and so are infinite numbers.
    """
    try:
        found: T = _built(kind, msgspec.json.decode(data, type=_strict(kind)))
    except (ValueError, RecursionError) as error:
        raise ValueError(reason(error)) from error
    return found


def single(data: bytes | str) -> tuple[str, bytes]:
    """Key and value of an object that has one; raises `ValueError` where there is no such thing."""
    try:
        found = msgspec.json.decode(data, type=dict[str, msgspec.Raw])
    except (ValueError, RecursionError) as error:
        raise ValueError(reason(error)) from error
    if len(found) != 1:
        raise ValueError("not an object with a single key")
    ((key, value),) = found.items()
    return key, bytes(value)


def decode(kind: type[T], data: bytes | str, source: str) -> T:
    """As `parse`, but raises `InvalidRequest` that begins with `source`."""
    try:
        return parse(kind, data)
    except ValueError as error:
        raise InvalidRequest(f"{source}: {error}", field=source) from error


def convert(kind: type[T], value: object, source: str) -> T:
    """As `decode`, for what a reader of another language (YAML) made of a text."""
    try:
        found: T = _built(kind, msgspec.convert(value, _strict(kind)))
    except (ValueError, RecursionError) as error:
        raise InvalidRequest(f"{source}: {reason(error)}", field=place(error)) from error
    return found


def decode_document(kind: type[T], data: bytes | str, file_format: Format, source: str) -> T:
    """As `decode`, for a whole file with a version; another version is refused as such."""
    try:
        head = msgspec.json.decode(data, type=_head(file_format.key))
    except (ValueError, RecursionError) as error:
        raise InvalidRequest(
            f"{source} is not {file_format.what}: {reason(error)}", field=source
        ) from error
    file_format.check(head.version, source)
    try:
        found: T = _built(kind, msgspec.json.decode(data, type=_strict(kind, file_format.key)))
    except (ValueError, RecursionError) as error:
        raise InvalidRequest(f"{source}: {reason(error)}", field=place(error)) from error
    return found


def encode(value: object, *, terse: bool = False, pretty: bool = False) -> bytes:
    """JSON in one line without its end, or `pretty`: indented, and with it.

    `terse` leaves out fields at their defaults.
    """
    if terse:
        value = msgspec.convert(value, _strict(type(value)), from_attributes=True)
    text = msgspec.json.encode(value)
    return msgspec.json.format(text, indent=1) + b"\n" if pretty else text


def encode_document(value: object, file_format: Format) -> bytes:
    """A whole file: the version first, then the value's fields."""
    return encode(versioned(value, file_format), pretty=True)


def versioned(value: object, file_format: Format) -> dict[str, Any]:
    """A dataclass as plain data, the version first."""
    return {file_format.key: file_format.version, **msgspec.to_builtins(value)}


def reason(error: Exception) -> str:
    """What a reader's error says, place first: "sizes.name: expected `str`, got `int`"."""
    where, text = _told(error)
    return f"{where}: {text}" if where else text


def place(error: Exception) -> str | None:
    """Where in a file a reader's error is: "systems[0].slots"; None where that is not known."""
    return _told(error)[0] or None


def _told(error: Exception) -> tuple[str, str]:
    """Place and reason of an error of msgspec, which names an object but not its key."""
    text, _, path = str(error).partition(" - at `$")
    path = path.rstrip("`").lstrip(".")
    for begin, problem in _KEY_ERRORS:
        if text.startswith(begin):
            key = text.removeprefix(begin).strip("`")
            return f"{path}.{key}".lstrip("."), problem
    if not text.startswith("JSON"):
        text = text[:1].lower() + text[1:]
    return path, text or type(error).__name__


_KEY_ERRORS = (
    ("Object contains unknown field ", "unknown key"),
    ("Object missing required field ", "missing"),
)


def read_bytes(path: str | Path, *, most: int | None = None) -> bytes:
    """A file's content; raises `InvalidRequest` where it cannot be read or has more than `most`."""
    try:
        with Path(path).open("rb") as file:
            content = file.read() if most is None else file.read(most + 1)
    except OSError as error:
        raise InvalidRequest(f"cannot read {path}: {error.strerror}", field=str(path)) from error
    if most is not None and len(content) > most:
        raise InvalidRequest(f"{path} is too large: more than {most} bytes", field=str(path))
    return content


def make_folder(path: Path) -> None:
    """Make a folder, with those above it; raises `InvalidRequest` unless files can be put there."""
    try:
        path.mkdir(parents=True, exist_ok=True)
        if not os.access(path, os.W_OK | os.X_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    except OSError as error:
        raise InvalidRequest(f"cannot write {path}: {error.strerror}", field=str(path)) from error


def write_bytes(path: str | Path, content: bytes, *, make_folder: bool = False) -> None:
    """Write a file whole or not at all; raises `InvalidRequest`. See `replacing`."""
    with replacing(path, make_folder=make_folder) as file:
        file.write(content)


@contextmanager
def replacing(path: str | Path, *, make_folder: bool = False) -> Iterator[BinaryIO]:
    """A file to write in place of the one at `path`, once and if the block has ended well.

    Whoever reads meanwhile, or after a crash, finds the old content or the new, never a part of it.
    Links and devices are written to directly. Raises `InvalidRequest` where it cannot be written.
    """
    path = Path(path)
    try:
        if make_folder:
            path.parent.mkdir(parents=True, exist_ok=True)
        if path.is_symlink() or (path.exists() and not path.is_file()):
            with path.open("wb") as file:
                yield file
            return
        part = path.with_name(f".{path.name}.{os.getpid()}")
        try:
            with part.open("wb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            part.replace(path)
        except BaseException:
            part.unlink(missing_ok=True)
            raise
    except OSError as error:
        raise InvalidRequest(f"cannot write {path}: {error.strerror}", field=str(path)) from error


def _built(kind: Any, value: object) -> Any:
    return msgspec.convert(value, kind, from_attributes=True)


@cache
def _head(key: str) -> Any:
    """Reads nothing of a file but its version."""
    return msgspec.defstruct("Head", [("version", Any, None)], rename={"version": key})


def _strict(kind: Any, version_key: str | None = None) -> Any:
    """The type that stands for `kind` in reading: every dataclass in it a struct that is strict."""
    return _struct(kind, version_key)


@cache
def _struct(kind: Any, version_key: str | None) -> Any:
    if is_dataclass(kind):
        hints = get_type_hints(kind, include_extras=True)
        entries: list[Any] = [] if version_key is None else [(version_key, int)]
        for each in fields(kind):
            default: tuple[Any, ...] = ()
            if each.default is not MISSING:
                default = (each.default,)
            elif each.default_factory is not MISSING:
                default = (msgspec.field(default_factory=each.default_factory),)
            entries.append((each.name, _strict(hints[each.name]), *default))
        return msgspec.defstruct(
            getattr(kind, "__name__", "Strict"),
            entries,
            rename={each.name: each.metadata[KEY] for each in fields(kind) if KEY in each.metadata},
            kw_only=True,
            forbid_unknown_fields=True,
            omit_defaults=True,
        )
    origin, parts = get_origin(kind), get_args(kind)
    if not parts or origin in (Literal, Annotated):
        return kind
    parts = tuple(part if part is ... else _strict(part) for part in parts)
    return Union[parts] if origin in (Union, UnionType) else origin[parts]  # noqa: UP007
