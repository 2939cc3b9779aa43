"""Command-line flags made from settings dataclasses, so that each setting is described once.

A policy's parameters are declared by its own class, and become flags here like the engine's.

A flag's value comes from the command line, else from the environment (`HEADWAY_MAX_NUM_SEQS`), else
from the `--config` file, else it is the field's default. Whatever the source, it is parsed and
checked in the same way, and an error names the flag.
"""

from __future__ import annotations

import argparse
import types
import typing
from collections.abc import Callable, Mapping
from dataclasses import MISSING, dataclass, fields
from typing import Any, Literal, TypeVar

from headway.config import from_environment
from headway.errors import InvalidRequest
from headway.scheduling.policy import PARAMETERS, split_options

_MULTIPLIERS = {
    "k": 10**3,
    "m": 10**6,
    "g": 10**9,
    "K": 2**10,
    "M": 2**20,
    "G": 2**30,
    "KiB": 2**10,
    "MiB": 2**20,
    "GiB": 2**30,
    "KB": 10**3,
    "MB": 10**6,
    "GB": 10**9,
}

Settings = TypeVar("Settings")

_POLICY_OPTIONS = "policy_options"
"""The field of the engine's settings that holds those of the policies."""


def whole_number(text: str) -> int:
    """An integer, with an optional size suffix: 8k is 8,000, 8K and 8KiB are 8,192."""
    text = text.strip()
    for suffix in sorted(_MULTIPLIERS, key=len, reverse=True):
        if text.endswith(suffix):
            number = float(text.removesuffix(suffix)) * _MULTIPLIERS[suffix]
            break
    else:
        number = float(text) if "e" in text.lower() else int(text)
    if number != int(number):
        raise ValueError(f"{text} is not a whole number")
    return int(number)


def truth(text: str) -> bool:
    """A switch as environments and files spell it."""
    lowered = text.strip().lower()
    if lowered in ("1", "true", "yes", "on"):
        return True
    if lowered in ("0", "false", "no", "off"):
        return False
    raise ValueError(f"{text!r} is neither true nor false")


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """One setting that users may give: a field of a settings class, or a policy's parameter."""

    name: str
    kind: Any
    default: Any
    help: str


def settings_of(settings: type[Any], *, leave_out: tuple[str, ...] = ()) -> list[Setting]:
    """The settings of a dataclass, but for some of its fields."""
    kinds = typing.get_type_hints(settings)
    found = []
    for field in fields(settings):
        if field.name in leave_out:
            continue
        named = {field.name: (field, kinds[field.name])}
        if field.name == _POLICY_OPTIONS:
            named = {name: (each.field, each.kind) for name, each in PARAMETERS.items()}
        found += [
            Setting(name=name, kind=kind, default=each.default, help=each.metadata.get("help", ""))
            for name, (each, kind) in named.items()
        ]
    return found


def add_flags(
    parser: argparse._ActionsContainer, settings: type[Any], *, leave_out: tuple[str, ...] = ()
) -> None:
    """One flag per setting of a settings dataclass. Defaults are applied by `collect`."""
    for setting in settings_of(settings, leave_out=leave_out):
        _add_flag(parser, setting)


def collect(
    settings: type[Settings],
    arguments: argparse.Namespace,
    *,
    file: Mapping[str, object] | None = None,
    environment: Mapping[str, str] | None = None,
) -> Settings:
    """The settings that flags, environment and file amount to; raises `InvalidRequest`."""
    values: dict[str, Any] = {}
    for setting in settings_of(settings):
        given = getattr(arguments, setting.name, None)
        if given is None:
            given = _from_elsewhere(setting.name, setting.kind, file or {}, environment)
        if given is not None:
            values[setting.name] = tuple(given) if isinstance(given, list) else given
    values, options = split_options(values)
    return settings(**values, **({_POLICY_OPTIONS: options} if options else {}))


def _add_flag(parser: argparse._ActionsContainer, setting: Setting) -> None:
    flag = "--" + setting.name.replace("_", "-")
    explanation = setting.help
    if setting.default not in (None, (), MISSING):
        explanation += f" (default: {setting.default})"
    options: dict[str, Any] = {"default": None, "help": explanation.replace("%", "%%")}
    plain = _without_none(setting.kind)
    if plain is bool:
        parser.add_argument(flag, action=argparse.BooleanOptionalAction, **options)
    elif typing.get_origin(plain) is Literal:
        parser.add_argument(flag, choices=typing.get_args(plain), **options)
    elif typing.get_origin(plain) is tuple:
        parser.add_argument(
            flag, nargs="+", type=_parser_of(_element(plain)), metavar="VALUE", **options
        )
    else:
        metavar = {int: "N", float: "X", str: "TEXT"}[typing.cast(type, plain)]
        parser.add_argument(flag, type=_parser_of(plain), metavar=metavar, **options)


def _from_elsewhere(
    name: str, kind: object, file: Mapping[str, object], environment: Mapping[str, str] | None
) -> object:
    flag = "--" + name.replace("_", "-")
    text = from_environment(flag, environment)
    source = "environment" if text is not None else "--config file"
    raw: object = text if text is not None else file.get(name)
    if raw is None:
        return None
    items = raw if isinstance(raw, list) else str(raw).split(",")
    plain = _without_none(kind)
    try:
        if typing.get_origin(plain) is tuple:
            parse = _parser_of(_element(plain))
            return tuple(parse(str(item).strip()) for item in items)
        value = _parser_of(plain)(str(raw))
    except ValueError as error:
        raise InvalidRequest(f"{flag} ({source}): {error}", field=flag) from error
    choices = typing.get_args(plain) if typing.get_origin(plain) is Literal else ()
    if choices and value not in choices:
        raise InvalidRequest(
            f"{flag} ({source}): {value!r} is none of {', '.join(choices)}", field=flag
        )
    return value


def _parser_of(plain: object) -> Callable[[str], Any]:
    parsers: dict[object, Callable[[str], Any]] = {int: whole_number, float: float, bool: truth}
    return parsers.get(plain, str)


def _element(kind: object) -> object:
    """The T of tuple[T, ...]."""
    return typing.get_args(kind)[0]


def _without_none(kind: object) -> object:
    if typing.get_origin(kind) in (typing.Union, types.UnionType):
        return next(part for part in typing.get_args(kind) if part is not type(None))
    return kind
