"""Entry of the `headway` command: picks the sub-command and turns errors into one line.

Exit status: 0 done, 1 failed for a reason that is printed, 2 wrong usage or a model that there is
not, 130 interrupted.
"""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Any, NamedTuple, NoReturn, TypeVar

from headway import __version__
from headway.errors import HeadwayError, ModelNotFound, did_you_mean
from headway.logs import flush_logs, start_logging

T = TypeVar("T")


class Subcommand(NamedTuple):
    """A line of a table of sub-commands, by their names."""

    configure: str
    """`module:function` that adds the flags to the parser and sets its default `run`."""
    help: str
    log_level: str = "info"
    adapt: str = ""
    """`module:function` that turns the words into the command's own, and says what its namespace
    is to have besides."""


COMMANDS = {
    "serve": Subcommand(
        "headway.cli.serve:configure",
        "serve a model over HTTP with an OpenAI-compatible API",
        adapt="headway.cli.compatibility:adapt_words",
    ),
    "generate": Subcommand(
        "headway.cli.generate:configure", "continue a prompt, or every line of standard input"
    ),
    "chat": Subcommand("headway.cli.generate:configure_chat", "talk with a model in the terminal"),
    "models": Subcommand("headway.cli.models:configure", "list, pull, prepare and remove models"),
    "profile": Subcommand(
        "headway.cli.profile:configure",
        "measure how long steps take here, for the simulator",
        log_level="warning",
    ),
    "bench": Subcommand(
        "headway.cli.bench:configure",
        "load a server or an engine, and compare policies",
        log_level="warning",
    ),
    "doctor": Subcommand(
        "headway.cli.doctor:configure",
        "show what was found on this machine and which kernels run",
    ),
    "explain": Subcommand(
        "headway.cli.explain:configure",
        "say how large the batch is and why, here or on a machine that need not be there",
        log_level="warning",
    ),
    "simulate": Subcommand(
        "headway.cli.simulate:configure",
        "run a workload on a simulated machine; find batches and fleets that hold objectives",
    ),
    "top": Subcommand(
        "headway.cli.top:configure",
        "watch a running server from the terminal",
        log_level="warning",
    ),
    "completion": Subcommand(
        "headway.cli.completion:configure",
        "print a script with which a shell completes commands, flags and their values",
    ),
}


class LazyParser(argparse.ArgumentParser):
    """A command's parser. Its module is imported once the command is chosen, not before.

    Flags are spelt in full. What is wrong is one line, with the word that was probably meant.
    """

    def __init__(self, *, configure: str = "", adapt: str = "", **settings: Any) -> None:
        super().__init__(**settings, allow_abbrev=False)
        self._configure = configure
        self._adapt = adapt

    def load(self) -> None:
        """Import the command's module and add its flags, unless that is done."""
        if self._configure:
            configure = _function(self._configure)
            self._configure = ""
            configure(self)

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        self.load()
        if self._adapt:
            try:
                args, besides = _function(self._adapt)(args)
            except HeadwayError as error:
                self.error(error.message)
            self.set_defaults(**besides)
        parsed, unknown = super().parse_known_args(args, namespace)
        if unknown:
            word = unknown[0].partition("=")[0]
            kind = "flag" if word.startswith("-") else "argument"
            self.error(f"unknown {kind} {word}{did_you_mean(word, self._option_string_actions)}")
        return parsed, unknown

    def error(self, message: str) -> NoReturn:
        more = "" if "did you mean" in message else f"; see `{self.prog} --help`"
        self.exit(2, f"{self.prog}: {message}{more}\n")

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        if action.choices is not None and value not in action.choices:
            known = [str(choice) for choice in action.choices]
            raise argparse.ArgumentError(
                action, f"{value!r} is none of {', '.join(known)}{did_you_mean(str(value), known)}"
            )


def _function(name: str) -> Callable[..., Any]:
    """A function by `module:function`; the module is imported now."""
    module, _, function = name.partition(":")
    found: Callable[..., Any] = getattr(importlib.import_module(module), function)
    return found


def add_subcommands(
    parser: argparse.ArgumentParser, table: Mapping[str, Subcommand], dest: str
) -> None:
    """A parser for every line of the table; the chosen name becomes the attribute `dest`."""
    parsers = parser.add_subparsers(
        dest=dest, required=True, metavar=dest.upper(), parser_class=LazyParser
    )
    for name, command in table.items():
        parsers.add_parser(
            name,
            help=command.help,
            description=command.help,
            configure=command.configure,
            adapt=command.adapt,
        )


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line and returns the exit status."""
    parsed = build_parser().parse_args(arguments)
    level: str = parsed.log_level or COMMANDS[parsed.command].log_level
    from headway.cli.flags import check_variables  # Here, as `headway --help` does without it.

    parsed.log_level = level
    start_logging(level)
    try:
        check_variables()
        status: int = parsed.run(parsed)
        return status
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        # Whoever read our output has left (`headway models list | head`): nothing to report, and
        # the interpreter must not complain about it either when it flushes on its way out.
        sys.stderr.close()
        return 1
    except HeadwayError as error:
        flush_logs()
        where = f"{error.field}: " if error.field and error.field not in error.message else ""
        print(f"headway: {where}{error.message}", file=sys.stderr)
        return 2 if isinstance(error, ModelNotFound) else 1


def run_async(main: Coroutine[Any, Any, T]) -> T:
    """The coroutine's result, from uvloop where it exists, else from asyncio's own loop."""
    import asyncio  # Here, as `headway --help` does without it.

    factory: Callable[[], asyncio.AbstractEventLoop] | None = None
    try:
        import uvloop

        factory = uvloop.new_event_loop
    except ImportError:
        pass
    with asyncio.Runner(loop_factory=factory) as runner:
        return runner.run(main)


def build_parser() -> LazyParser:
    """The parser of the whole command line."""
    parser = LazyParser(
        prog="headway", description="An LLM inference engine and server with continuous batching."
    )
    parser.add_argument("--version", action="version", version=f"headway {__version__}")
    parser.add_argument(
        "--log-level",
        choices=("debug", "info", "warning", "error"),
        help="default: info, and warning for commands that measure",
    )
    add_subcommands(parser, COMMANDS, "command")
    return parser
