"""`headway models list | pull | prepare | verify | rm`: what the cache holds."""

from __future__ import annotations

import argparse
import contextlib
import signal
import sys
import threading
from collections.abc import Iterator
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
        action.add_argument(
            "model", nargs="?", default=DEFAULT_MODEL, help=f"default: {DEFAULT_MODEL}"
        )
    verify = actions.add_parser(
        "verify", help="read models, compare them with their digests, and mend what is damaged"
    )
    verify.add_argument("model", nargs="?", help="a name that `list` shows (default: all)")
    remove = actions.add_parser("rm", help="remove a download and all that was prepared from it")
    remove.add_argument(
        "model", help="a name that `list` shows; a prepared model's, with or without its storage"
    )


def run(arguments: argparse.Namespace) -> int:
    with _ending_cleanly():
        return _run(arguments)


@contextlib.contextmanager
def _ending_cleanly() -> Iterator[None]:
    """Let SIGTERM end the work as Ctrl-C does, so that nothing half-written is left."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _run(arguments: argparse.Namespace) -> int:
    if arguments.action == "prepare":
        _prepare(collect(EngineConfig, arguments))
        return 0
    if arguments.action == "verify":
        return _verify(arguments.model)
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


def _verify(name: str | None) -> int:
    """Returns 1 where something is damaged still."""
    from headway.checkpoint.verify import verify_models

    status = 0
    for found in verify_models(name):
        entry = found.entry
        status = max(status, found.verdict == "damaged")
        line = f"{found.verdict:<11} {_mib(entry.bytes):>10}  {entry.name:<44} {found.reason}"
        print(line.rstrip(), flush=True)
    return status


def _mib(size: int) -> str:
    return f"{size / 2**20:,.0f} MiB"
