"""`headway completion bash`: a script with which a shell completes Headway's command line.

It is made from the parsers once, when it is asked for: Headway is not started while somebody types.
"""

from __future__ import annotations

import argparse

from headway.cli.completion_scripts import SCRIPTS
from headway.cli.completion_tree import command_tree
from headway.cli.main import build_parser


def configure(parser: argparse.ArgumentParser) -> None:
    parser.set_defaults(run=run)
    parser.add_argument("shell", choices=tuple(SCRIPTS), metavar="SHELL", help=", ".join(SCRIPTS))
    parser.epilog = "For bash: source <(headway completion bash). The others: docs/completion.md."


def run(arguments: argparse.Namespace) -> int:
    print(SCRIPTS[arguments.shell](command_tree(build_parser(), "headway")), end="")
    return 0
