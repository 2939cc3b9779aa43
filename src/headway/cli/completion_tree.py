"""The command line as plain data: each command with its flags and what their values may be.

It is read from the parsers themselves, so it has all that there is. For shells that complete what
is typed (`headway.cli.completion_scripts`).
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from headway.checkpoint.known import known_models
from headway.cli.main import LazyParser

ValueKind = Literal["words", "files", "other"]
_FILES = (
    "record",
    "profile",
    "device",
    "uds",
    "scenario",
    "ssl_keyfile",
    "ssl_certfile",
    "chat_template",
    "tokenizer",
)
"""Arguments whose values are files, or may be, though their help calls them otherwise."""
_LONGEST = 70
"""Characters of a help text that stand beside a flag."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CompletedValue:
    """What may stand in one place of a command line."""

    kind: ValueKind
    """Some words; names of files, beside any words; or something that nobody can guess."""
    words: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class CommandFlag:
    """A flag under all its names, such as `--host` or `-h` and `--help`."""

    names: tuple[str, ...]
    help: str
    value: CompletedValue | None
    """What comes after it; None for a switch."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CommandTree:
    """A command, and those below it."""

    name: str
    """With all the words before it, such as "headway bench serve"."""
    help: str
    flags: tuple[CommandFlag, ...]
    argument: CompletedValue
    """What may stand where no flag asks for a value."""
    commands: tuple[CommandTree, ...] = ()

    def walk(self) -> Iterator[CommandTree]:
        """This command, and all below it."""
        yield self
        for each in self.commands:
            yield from each.walk()


def command_tree(parser: argparse.ArgumentParser, name: str, said: str = "") -> CommandTree:
    """All that a parser takes; the modules of all its commands are imported for that."""
    if isinstance(parser, LazyParser):
        parser.load()
    argument = CompletedValue(kind="other")
    flags: list[CommandFlag] = []
    commands: list[CommandTree] = []
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            texts = {each.dest: _plain(each.help) for each in action._choices_actions}
            commands += [
                command_tree(below, f"{name} {word}", texts.get(word, ""))
                for word, below in action.choices.items()
            ]
        elif action.help == argparse.SUPPRESS:
            continue
        elif action.option_strings:
            value = None if action.nargs == 0 else _value_of(action)
            names = tuple(action.option_strings)
            flags.append(CommandFlag(names=names, help=_plain(action.help), value=value))
        else:
            argument = _value_of(action)
    return CommandTree(
        name=name, help=said, flags=tuple(flags), argument=argument, commands=tuple(commands)
    )


def _value_of(action: argparse.Action) -> CompletedValue:
    """A choice; a model's name or file; a file for FILE, DIR and STEPS; else nothing is known."""
    if action.choices is not None:
        return CompletedValue(kind="words", words=tuple(map(str, action.choices)))
    if action.dest == "model" and (action.metavar == "MODEL" or not action.option_strings):
        names = tuple(model.name for model in known_models())
        return CompletedValue(kind="files", words=names)
    named = str(action.metavar).partition(".")[0] in ("FILE", "DIR", "STEPS")
    if named or action.type is Path or action.dest in _FILES:
        return CompletedValue(kind="files")
    return CompletedValue(kind="other")


def _plain(text: str | None) -> str:
    """The beginning of a help text, short enough to stand beside a flag."""
    words = " ".join((text or "").replace("%%", "%").split())
    for end in ("; ", ". ", " (", ", such as "):
        words = words.partition(end)[0]
    return words if len(words) <= _LONGEST else words[: _LONGEST - 1].rstrip(" ,") + "…"
