"""Flags of other servers: what `headway serve` makes of those of `vllm serve` and `llama-server`.

Each is one of four: Headway's own; one of Headway's under another name; accepted, because what it
asks for is done anyway or because it tunes a part that Headway has not; refused, with what to use
instead. The tables are data (`data/*.toml`); docs/flags.md is made from the same tables.

Words of the command line are read here before argparse sees them, and the keys of a `--config` file
likewise. What is no flag of another server passes as it is, for argparse to judge.
"""

from __future__ import annotations

import json
import tomllib
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any, Literal

from headway.cli.flags import settings_of, truth, whole_number
from headway.cli.json_flags import JSON_FLAGS, joined_settings, joined_words
from headway.config import EngineConfig, ServerConfig
from headway.errors import InvalidRequest
from headway.settings import without_none

Outcome = Literal["supported", "alias", "accepted", "refused"]
Takes = Literal["nothing", "switch", "choice", "integer", "number", "text", "texts", "json"]

SERVERS = {"vllm": "vllm serve", "llama_server": "llama-server"}
"""Whose flags are known: the name of the table's file, and the command."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """One flag of another server, under all its names, and what becomes of it."""

    flags: tuple[str, ...]
    outcome: Outcome
    takes: Takes = "text"
    """Its value's type: `switch` may be followed by true or false, `choice` by one of `fits`."""
    fits: tuple[str, ...] | None = None
    """Values that ask for what is done anyway; None: every value of the type."""
    target: str = ""
    """Of an alias: Headway's flag, begun with `--no-` or ended with `=value` where it is a switch
    that stands for that."""
    values: Mapping[str, str] | None = None
    """Of a supported flag or an alias: values under other names; an empty one drops the flag."""
    note: str = ""


@dataclass(slots=True)
class Adapted:
    """Words for argparse, and what was accepted of others: `--enforce-eager: why`."""

    words: list[str]
    accepted: list[str]


def adapt_words(words: Sequence[str]) -> tuple[list[str], dict[str, Any]]:
    """A command line with other servers' flags as one with Headway's own.

    Returns its words, and what the parser's namespace is to have besides: `accepted_flags`, a line
    for each flag that changes nothing. Raises `InvalidRequest` that names the flag, for a flag or a
    value that asks for something else than what is done.
    """
    adapted = Adapted([], [])
    rest = deque(words)
    while rest:
        word = rest.popleft()
        if word == "--" or not word.startswith("-"):
            adapted.words += [word, *rest] if word == "--" else [word]
            if word == "--":
                break
            continue
        name, given = _split(word)
        rule, negated = _find(name)
        if rule is None:
            adapted.words.append(name if given is None else f"{name}={given}")
        else:
            _apply(adapted, rule, name, _values(rule, given, rest), negated=negated)
    return joined_words(adapted.words), {"accepted_flags": adapted.accepted}


def adapt_settings(file: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """The same for a `--config` file: its settings under Headway's names, and the lines."""
    kept: dict[str, Any] = {}
    accepted: list[str] = []
    for key, value in file.items():
        name = "--" + key.replace("_", "-")
        rule, negated = _find(name)
        own = rule is None or (rule.outcome == "supported" and not rule.values)
        if rule is None or (own and not isinstance(value, str)):
            kept[key] = json.dumps(value) if isinstance(value, dict) else value
            continue
        if value is None or (value is False and rule.outcome == "refused"):
            continue  # asks for nothing
        adapted = Adapted([], accepted)
        _apply(adapted, rule, name, _as_words(value), negated=negated)
        for setting, found in _settings(adapted.words, value):
            if setting in kept or (setting != key and setting in file):
                raise InvalidRequest(
                    f"--config file: {setting} is given twice, as {key} too", field=key
                )
            kept[setting] = found
    return joined_settings(kept), accepted


@cache
def rules(server: str) -> tuple[Rule, ...]:
    """All flags of a server (a key of `SERVERS`) that are known, in the order of its table."""
    text = resources.files("headway.cli").joinpath("data", f"{server}.toml").read_text("utf-8")
    table = tomllib.loads(text)
    values = table["values"]
    found = [
        Rule(flags=(flag,), outcome="supported", values=values.get(flag))
        for flag in table["supported"]
    ]
    for flag, target in table["alias"].items():
        switch = target.startswith("--no-") or "=" in target or target in _own_switches()
        takes: Takes = "switch" if switch else "text"
        found.append(
            Rule(
                flags=(flag,),
                outcome="alias",
                target=target,
                takes=takes,
                values=values.get(flag),
            )
        )
    for outcome in ("accepted", "refused"):
        for row in table[outcome]:
            found += [
                Rule(
                    flags=tuple(names.split(", ")),
                    outcome=outcome,
                    takes=row.get("takes", "text"),
                    fits=tuple(row["fits"]) if "fits" in row else None,
                    note=row["note"],
                )
                for names in row["flags"]
            ]
    return tuple(found)


@cache
def _by_name() -> dict[str, Rule]:
    """What words are looked up in.

    Headway's own flags are there where a value may be spelt otherwise: vLLM's scripts say
    `--enable-prefix-caching=true`, and write lists as JSON.
    """
    found: dict[str, Rule] = {}
    for server in reversed(SERVERS):
        for rule in rules(server):
            if rule.outcome != "supported" or rule.values:
                found |= dict.fromkeys(rule.flags, rule)
    for name in _own_switches():
        found[name] = Rule(flags=(name,), outcome="supported", takes="switch")
    for name in _own_lists():
        found[name] = Rule(flags=(name,), outcome="supported", takes="texts")
    for name in JSON_FLAGS:
        found[name] = Rule(flags=(name,), outcome="supported", takes="json")
    return found


@cache
def _own_switches() -> frozenset[str]:
    settings = (*settings_of(EngineConfig), *settings_of(ServerConfig))
    return frozenset(
        "--" + each.name.replace("_", "-") for each in settings if without_none(each.kind) is bool
    )


@cache
def _own_lists() -> frozenset[str]:
    settings = (*settings_of(EngineConfig), *settings_of(ServerConfig))
    return frozenset("--" + each.name.replace("_", "-") for each in settings if each.default == ())


def _split(word: str) -> tuple[str, str | None]:
    """A flag's name, with dashes as Headway spells it, and the value after its equals sign."""
    name, equals, value = word.partition("=")
    if name.startswith("--"):
        name = name.replace("_", "-")
    return name, value if equals else None


def _find(name: str) -> tuple[Rule | None, bool]:
    """The rule for a flag, and whether it is the flag's negation: `--no-` and the name."""
    known = _by_name()
    # vLLM sets a part of a JSON value by a dotted name: `--compilation-config.level 3`.
    for each in (name, name.partition(".")[0]):
        if each in known:
            return known[each], False
    rule = known.get("--" + name.removeprefix("--no-")) if name.startswith("--no-") else None
    return (rule, True) if rule is not None and rule.takes == "switch" else (None, False)


def _values(rule: Rule, given: str | None, rest: deque[str]) -> list[str]:
    """The values of a flag, which are taken off the words after it."""
    if given is not None:
        return [given]
    if not rest or rule.takes == "nothing" or rule.outcome == "refused":
        return []
    if rule.takes == "switch":
        return [rest.popleft()] if rest[0].lower() in ("true", "false") else []
    if rule.takes == "choice":
        return [rest.popleft()] if rest[0] in (rule.fits or ()) else []
    several = rule.takes == "texts" or (rule.target or rule.flags[0]) in _own_lists()
    found: list[str] = []
    while rest and not _is_flag(rest[0]) and (several or not found):
        found.append(rest.popleft())
    return found


def _is_flag(word: str) -> bool:
    return word.startswith("-") and not word.removeprefix("-").replace(".", "", 1).isdigit()


def _apply(adapted: Adapted, rule: Rule, name: str, values: list[str], *, negated: bool) -> None:
    if rule.outcome == "refused":
        raise InvalidRequest(f"{name} is not supported: {rule.note}", field=name)
    if rule.takes == "switch":
        wanted = _switch(name, values) != negated
        if rule.outcome == "accepted":
            _accept(
                adapted, rule, name if not values else f"{name} {values[0]}", wanted=str(wanted)
            )
        else:
            adapted.words += _switched(rule.target or rule.flags[0], wanted=wanted)
    elif rule.outcome == "accepted":
        _check_type(rule, name, values)
        for value in values or [""]:
            _accept(adapted, rule, f"{name} {value}".strip(), wanted=value)
    else:
        words = _spelt(rule, name, values)
        adapted.words += words
        if not words:
            adapted.accepted.append(f"{name} {values[0]}: what is done without it")


def _switch(name: str, values: list[str]) -> bool:
    try:
        return truth(values[0]) if values else True
    except ValueError as error:
        raise InvalidRequest(f"{name}: {error}", field=name) from error


def _switched(target: str, *, wanted: bool) -> list[str]:
    """A switch of Headway's turned to what is wanted."""
    if "=" in target:
        return [target] if wanted else []
    if not wanted:
        target = "--" + target.removeprefix("--no-") if "--no-" in target else f"--no-{target[2:]}"
    return [target]


def _accept(adapted: Adapted, rule: Rule, shown: str, *, wanted: str) -> None:
    """Note a flag that changes nothing; raise for a value that asks for something else."""
    if rule.fits is not None and wanted and not any(_same(wanted, each) for each in rule.fits):
        name = rule.flags[0] if rule.flags[0].startswith("--") else rule.flags[-1]
        raise InvalidRequest(f"{shown} is not supported: {rule.note}", field=name)
    adapted.accepted.append(f"{shown}: {rule.note}")


def _same(value: str, fitting: str) -> bool:
    try:
        return float(value) == float(fitting)
    except ValueError:
        return value.replace(" ", "").lower() == fitting.replace(" ", "").lower()


def _check_type(rule: Rule, name: str, values: list[str]) -> None:
    readers: dict[Takes, Callable[[str], object]] = {
        "integer": whole_number,
        "number": float,
        "json": json.loads,
    }
    if not values and rule.takes not in ("nothing", "choice"):
        raise InvalidRequest(f"{name} needs a value", field=name)
    if values and rule.takes == "nothing":
        raise InvalidRequest(f"{name} takes no value", field=name)
    try:
        for value in values:
            readers.get(rule.takes, str)(value)
    except ValueError as error:
        word = {"integer": "a whole number", "number": "a number"}.get(rule.takes, "JSON")
        raise InvalidRequest(f"{name}: {values[0]!r:.60} is not {word}", field=name) from error


def _spelt(rule: Rule, name: str, values: list[str]) -> list[str]:
    """Headway's flag with these values, in its own spelling; a part that is named stays named."""
    flag = (rule.target or rule.flags[0]) + "".join(name.partition(".")[1:])
    if not values:
        return [flag]
    if flag in _own_lists():
        return [flag, *(each for value in values for each in _listed(rule, value))]
    (value,) = values
    value = (rule.values or {}).get(value.lower(), value)
    return [f"{flag}={value}"] if value or not values[0] else []


def _listed(rule: Rule, value: str) -> list[str]:
    """vLLM has lists as JSON, and llama-server, whose flags have other names, with commas."""
    if value.startswith("["):
        try:
            found = json.loads(value)
        except ValueError:
            return [value]
        return [str(each) for each in found]
    return [each.strip() for each in value.split(",")] if rule.outcome == "alias" else [value]


def _as_words(value: object) -> list[str]:
    if isinstance(value, list):
        return [str(each) for each in value]
    return [json.dumps(value) if isinstance(value, dict) else str(value)]


def _settings(words: list[str], value: object) -> list[tuple[str, Any]]:
    """Adapted words as settings of a file, with the value's own type where it is still the same."""
    if not words:
        return []
    flag, equals, text = words[0].partition("=")
    name = flag.removeprefix("--").replace("-", "_")
    if name.startswith("no_"):
        return [(name.removeprefix("no_"), False)]
    if words[1:]:
        return [(name, words[1:])]
    if not equals:
        return [(name, True)]
    return [(name, value if str(value) == text else text)]
