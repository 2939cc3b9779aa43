"""`headway serve [MODEL]`: the HTTP server."""

from __future__ import annotations

import argparse
from pathlib import Path

from headway.cli.flags import add_flags, check_known, collect, read_config_file
from headway.cli.main import run_async
from headway.config import EngineConfig, ServerConfig, from_environment


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "model",
        nargs="?",
        default=None,
        metavar="MODEL",
        help="known name, hub name, GGUF file or model directory (default: smollm2-135m-instruct)",
    )
    parser.add_argument("--config", metavar="FILE.yaml", help="file with any of these settings")
    add_flags(parser.add_argument_group("server"), ServerConfig)
    add_flags(parser.add_argument_group("engine"), EngineConfig, leave_out=("model",))


def run(arguments: argparse.Namespace) -> int:
    from headway.server import run_server

    path = arguments.config or from_environment("--config")
    file = read_config_file(Path(path)) if path else {}
    check_known(file, (EngineConfig, ServerConfig))
    engine = collect(EngineConfig, arguments, file=file)
    server = collect(ServerConfig, arguments, file=file)
    return run_async(run_server(engine, server))
