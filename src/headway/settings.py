"""What a setting is: a field of a dataclass, with its help and its bounds beside its default.

Every number has a least and a most value. `check_settings` holds them for all fields at once, so
they hold whatever a value's source: a flag, the environment, a file or Python.
"""

from __future__ import annotations

import types
import typing
from collections.abc import Mapping
from dataclasses import field, fields
from functools import cache
from typing import Any, Literal

from headway.errors import InvalidRequest, did_you_mean

_WORDS = {int: "a whole number", float: "a number", str: "text", bool: "true or false"}
_SHOWN = 40


def setting(
    default: Any, explanation: str, *, least: float | None = None, most: float | None = None
) -> Any:
    """A dataclass field with its one-line help, from which the command line makes a flag.

    A number needs the least and the most value that it may have.
    """
    return field(default=default, metadata={"help": explanation, "least": least, "most": most})


def check_settings(settings: Any, *, prefix: str = "") -> None:
    """Raise `InvalidRequest` for a value of the wrong type or outside its bounds.

    `settings` is any dataclass whose fields are made by `setting`; their names in errors get the
    prefix. NaN is outside of all bounds.
    """
    kinds = _kinds(settings.__class__)
    for each in fields(settings):
        value = getattr(settings, each.name)
        name, kind = prefix + each.name, kinds[each.name]
        if value is None and type(None) in typing.get_args(kind):
            continue
        plain = without_none(kind)
        choices = typing.get_args(plain) if typing.get_origin(plain) is Literal else None
        if choices and value not in choices:
            raise InvalidRequest(
                f"{name}: {_shown(value)} is none of {', '.join(choices)}"
                f"{did_you_mean(str(value), choices)}",
                field=name,
            )
        if plain in (int, float):
            _check_number(name, value, plain, each.metadata)
        elif plain in _WORDS and not isinstance(value, plain):
            raise InvalidRequest(f"{name} must be {_WORDS[plain]}, got {_shown(value)}", field=name)
        elif typing.get_origin(plain) is tuple and not _texts(value):
            raise InvalidRequest(f"{name} must be a list of texts", field=name)


def _check_number(name: str, value: Any, kind: type, metadata: Mapping[str, Any]) -> None:
    allowed = int if kind is int else (int, float)
    if isinstance(value, bool) or not isinstance(value, allowed):
        raise InvalidRequest(f"{name} must be {_WORDS[kind]}, got {_shown(value)}", field=name)
    least, most = kind(metadata["least"]), kind(metadata["most"])
    if not least <= value <= most:
        form = ",d" if kind is int else ",.15g"
        raise InvalidRequest(
            f"{name} must be from {least:{form}} to {most:{form}}, got {_shown(value)}", field=name
        )


def _texts(value: object) -> bool:
    return isinstance(value, tuple | list) and all(isinstance(each, str) for each in value)


def without_none(kind: Any) -> Any:
    """The type without its None: `int` for `int | None`."""
    if typing.get_origin(kind) in (typing.Union, types.UnionType):
        return next(part for part in typing.get_args(kind) if part is not type(None))
    return kind


@cache
def _kinds(settings: type[Any]) -> dict[str, Any]:
    return typing.get_type_hints(settings)


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."
