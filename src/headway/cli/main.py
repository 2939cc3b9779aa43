"""Runs a command's coroutine on the fastest event loop there is.

Entry of the `headway` command: picks the subcommand and turns errors into one line.

Exit status: 0 done, 1 failed for a reason that is printed, 2 wrong usage, 130 interrupted.
"""

from __future__ import annotations

import argparse
import asyncio
import importlib
import logging
import sys
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, TypeVar

from headway import __version__
from headway.errors import HeadwayError

T = TypeVar("T")


def run_async(main: Coroutine[Any, Any, T]) -> T:
    """The coroutine's result, from uvloop where it exists, else from asyncio's own loop."""
    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        return runner.run(main)


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    try:
        import uvloop
    except ImportError:
        return None
    factory: Callable[[], asyncio.AbstractEventLoop] = uvloop.new_event_loop
    return factory


QUIET = ("bench", "profile")
"""Commands that start engine after engine, of whose starts nobody wants to hear."""
COMMANDS = {
    "serve": "serve a model over HTTP with an OpenAI-compatible API",
    "generate": "continue a prompt, or every line of standard input",
    "chat": "talk with a model in the terminal",
    "models": "list, pull, prepare and remove models",
    "profile": "measure how long steps take here, for the simulator",
    "bench": "load a server or an engine, and compare policies",
    "doctor": "show what was found on this machine and which kernels run",
    "simulate": "run a workload on a simulated machine; find batches and fleets that hold",
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line and returns the exit status."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    parser = _parser(given)
    parsed = parser.parse_args(given)
    level: str = parsed.log_level or ("warning" if parsed.command in QUIET else "info")
    logging.basicConfig(
        level=level.upper(), format="%(asctime)s %(levelname)s %(name)s: %(message)s"
    )
    try:
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
        where = f"{error.field}: " if error.field and error.field not in error.message else ""
        print(f"headway: {where}{error.message}", file=sys.stderr)
        return 1


def _parser(given: Sequence[str]) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="headway", description="An LLM inference engine and server with continuous batching."
    )
    parser.add_argument("--version", action="version", version=f"headway {__version__}")
    parser.add_argument(
        "--log-level",
        choices=("debug", "info", "warning", "error"),
        help="default: info, and warning for commands that measure",
    )
    subcommands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    named = next((word for word in given if word in COMMANDS), None)
    for name, explanation in COMMANDS.items():
        subparser = subcommands.add_parser(name, help=explanation, description=explanation)
        # Only the chosen command's module is imported: the others cost start-up time.
        if name == named:
            module = importlib.import_module(f"headway.cli.{name}")
            module.configure(subparser)
            subparser.set_defaults(run=module.run)
    return parser
