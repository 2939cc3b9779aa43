"""Command-line flags made from settings dataclasses, so that each setting is described once.

A policy's parameters are declared by its own class, and become flags here like the engine's.

A flag's value comes from the command line, else from the environment (`HEADWAY_MAX_NUM_SEQS`), else
from the `--config` file, else it is the field's default. Whatever the source, it is parsed and
checked in the same way, and an error names the flag.
"""

from __future__ import annotations

import argparse
import typing
from collections.abc import Callable, Mapping
from dataclasses import MISSING, dataclass, fields
from typing import Any, Literal, TypeVar

from headway.config import EngineConfig, ServerConfig
from headway.environment import check_environment, from_environment
from headway.errors import InvalidRequest, did_you_mean
from headway.scheduling.policy import PARAMETERS, split_options
from headway.settings import without_none

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
    suffixes = sorted(_MULTIPLIERS, key=len, reverse=True)
    suffix = next((each for each in suffixes if text.endswith(each)), "")
    digits = text.removesuffix(suffix)
    try:
        exact = not suffix and "e" not in text.lower() and "." not in text
        number = int(digits) if exact else float(digits) * _MULTIPLIERS.get(suffix, 1)
        if number == int(number):
            return int(number)
    except (ValueError, OverflowError):
        pass
    raise ValueError(f"{text!r:.60} is not a whole number")


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
    parser: argparse._ActionsContainer,
    settings: type[Any],
    *,
    leave_out: tuple[str, ...] = (),
    defaults: Mapping[str, object] | None = None,
) -> None:
    """One flag per setting of a settings dataclass. Defaults are applied by `collect`.

    `defaults` are those that the help is to name in place of the settings' own; None: no default.
    """
    for setting in settings_of(settings, leave_out=leave_out):
        _add_flag(parser, setting, (defaults or {}).get(setting.name, setting.default))


def check_variables(environment: Mapping[str, str] | None = None) -> None:
    """Raise `InvalidRequest` for an environment variable `HEADWAY_...` that stands for no flag."""
    names = (each.name for kind in (EngineConfig, ServerConfig) for each in settings_of(kind))
    check_environment(["config", *names], environment)


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


def _add_flag(parser: argparse._ActionsContainer, setting: Setting, default: object) -> None:
    flag = "--" + setting.name.replace("_", "-")
    explanation = setting.help
    if default not in (None, (), MISSING):
        explanation += f" (default: {default})"
    options: dict[str, Any] = {"default": None, "help": explanation.strip().replace("%", "%%")}
    plain = without_none(setting.kind)
    if plain is bool:
        parser.add_argument(flag, action=argparse.BooleanOptionalAction, **options)
    elif typing.get_origin(plain) is Literal:
        parser.add_argument(flag, choices=typing.get_args(plain), **options)
    elif typing.get_origin(plain) is tuple:
        parser.add_argument(
            flag, nargs="+", type=_argument(_element(plain)), metavar="VALUE", **options
        )
    else:
        metavar = {int: "N", float: "X", str: "TEXT"}[typing.cast(type, plain)]
        parser.add_argument(flag, type=_argument(plain), metavar=metavar, **options)


def _from_elsewhere(
    name: str, kind: object, file: Mapping[str, object], environment: Mapping[str, str] | None
) -> object:
    flag = "--" + name.replace("_", "-")
    text = from_environment(flag, environment)
    plain = without_none(kind)
    if text is not None:
        source, raw = "environment", _words(text, plain)
    elif name in file:
        source, raw = "--config file", _file_value(flag, file[name], plain)
    else:
        return None
    try:
        if typing.get_origin(plain) is tuple:
            return tuple(map(_parser_of(_element(plain)), raw))
        value = _parser_of(plain)(raw[0])
    except ValueError as error:
        raise InvalidRequest(f"{flag} ({source}): {error}", field=flag) from error
    choices = typing.get_args(plain) if typing.get_origin(plain) is Literal else ()
    if choices and value not in choices:
        raise InvalidRequest(
            f"{flag} ({source}): {value!r} is none of {', '.join(choices)}"
            f"{did_you_mean(value, choices)}",
            field=flag,
        )
    return value


def _words(text: str, plain: object) -> list[str]:
    """The one value in a text, or the several of a setting that has several."""
    if typing.get_origin(plain) is not tuple:
        return [text]
    return [word.strip() for word in text.split(",")]


def _file_value(flag: str, value: object, plain: object) -> list[str]:
    """What stands in a file, as words of a command line; raises `InvalidRequest` for other types.

    Text must be text there: YAML reads an unquoted 0123 as the number 83, and no as false.
    """
    several = typing.get_origin(plain) is tuple
    wanted = _element(plain) if several else plain
    kinds, word = _IN_FILES.get(wanted, (str, "a text, in quotes if it looks like a number"))
    if several and isinstance(value, str):
        return _words(value, plain)
    for each in value if several and isinstance(value, list) else [value]:
        if not isinstance(each, kinds) or (isinstance(each, bool) and wanted is not bool):
            found = "nothing" if each is None else f"{each!r:.60}"
            one = f"{word}, or a list" if several else word
            raise InvalidRequest(f"{flag} (--config file) must be {one}, not {found}", field=flag)
    return [str(each) for each in (value if isinstance(value, list) else [value])]


_IN_FILES: dict[object, tuple[Any, str]] = {
    int: ((int, float, str), "a whole number"),
    float: ((int, float, str), "a number"),
    bool: ((bool, str), "true or false"),
}


def _parser_of(plain: object) -> Callable[[str], Any]:
    parsers: dict[object, Callable[[str], Any]] = {int: whole_number, float: _number, bool: truth}
    return parsers.get(plain, str)


def _argument(plain: object) -> Callable[[str], Any]:
    """The same for argparse, which then shows the message of the error."""
    parse = _parser_of(plain)

    def parsed(text: str) -> Any:
        try:
            return parse(text)
        except ValueError as error:
            raise argparse.ArgumentTypeError(str(error)) from error

    return parsed


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError as error:
        raise ValueError(f"{text!r:.60} is not a number") from error


def _element(kind: object) -> object:
    """The T of tuple[T, ...]."""
    return typing.get_args(kind)[0]
