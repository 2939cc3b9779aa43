"""`headway models list | pull | prepare | rm`: what lies in the cache, and what goes there."""

from __future__ import annotations

import argparse
from dataclasses import fields

from headway.cli.flags import add_flags, collect
from headway.config import DEFAULT_MODEL, EngineConfig

_DECIDING = ("dtype", "backend", "device", "kv_cache_dtype")
"""Settings that decide how a model is stored."""


def configure(parser: argparse.ArgumentParser) -> None:
    parser.set_defaults(run=run)
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    actions.add_parser("list", help="known, downloaded and prepared models")
    pull = actions.add_parser("pull", help="download a model")
    prepare = actions.add_parser("prepare", help="download and convert a model for quick starts")
    others = tuple(field.name for field in fields(EngineConfig) if field.name not in _DECIDING)
    add_flags(prepare, EngineConfig, leave_out=others)
    for action in (pull, prepare):
        action.add_argument("model", nargs="?", default=DEFAULT_MODEL)
    remove = actions.add_parser("rm", help="remove a downloaded or prepared model")
    remove.add_argument("model", help="a name that `list` shows")


def run(arguments: argparse.Namespace) -> int:
    if arguments.action == "prepare":
        _prepare(collect(EngineConfig, arguments))
        return 0
    # Imports a library for every model format, which `--help` does without.
    from headway.checkpoint.inventory import list_models, pull_model, remove_model

    if arguments.action == "list":
        for entry in list_models():
            size = _mib(entry.bytes) if entry.bytes else "-"
            print(f"{entry.kind:<11} {size:>10}  {entry.name:<44} {entry.about}")
    elif arguments.action == "pull":
        for path in pull_model(arguments.model):
            print(path)
    else:
        for entry in remove_model(arguments.model):
            print(f"removed {entry.kind} {entry.name}, {_mib(entry.bytes)}")
    return 0


def _prepare(config: EngineConfig) -> None:
    """As an engine with these settings would need it; the folder's name says how it is stored."""
    from headway.llm.weight_format import ready_model

    _, prepared = ready_model(config)
    print(prepared.folder)


def _mib(size: int) -> str:
    return f"{size / 2**20:,.0f} MiB"
