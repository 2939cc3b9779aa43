"""`headway serve [MODEL]`: the HTTP server, with its settings from flags or a file."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from headway.cli.flags import add_flags, collect, settings_of
from headway.cli.main import run_async
from headway.config import EngineConfig, ServerConfig, from_environment
from headway.errors import InvalidRequest
from headway.logs import start_logging


def configure(parser: argparse.ArgumentParser) -> None:
    parser.set_defaults(run=run)
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
    # The server's libraries take half a second to import, which `--help` does without.
    from headway.server import run_server

    path = arguments.config or from_environment("--config")
    file = read_config_file(Path(path)) if path else {}
    check_known(file, (EngineConfig, ServerConfig))
    engine = collect(EngineConfig, arguments, file=file)
    server = collect(ServerConfig, arguments, file=file)
    start_logging(arguments.log_level, server.log_format)
    return run_async(run_server(engine, server))


def read_config_file(path: Path) -> dict[str, object]:
    """A YAML file of flags without their dashes (`max-num-seqs: 64`)."""
    try:
        content = yaml.safe_load(path.read_text())
    except OSError as error:
        raise InvalidRequest(f"cannot read {path}: {error.strerror}", field="--config") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InvalidRequest(f"{path} is not valid YAML: {error}", field="--config") from error
    if not isinstance(content, dict):
        raise InvalidRequest(f"{path} must hold a mapping of settings", field="--config")
    return {str(key).replace("-", "_"): value for key, value in content.items()}


def check_known(file: Mapping[str, object], known: tuple[type[Any], ...]) -> None:
    """Raises `InvalidRequest` for a key of a config file that no settings class has."""
    names = {setting.name for settings in known for setting in settings_of(settings)}
    for key in file:
        if key not in names:
            raise InvalidRequest(f"--config file: unknown setting {key!r}", field=key)
    if "api_key" in file and not file["api_key"]:
        # Most likely from a template whose variable was not set. As in YAML's other settings null
        # would mean the default, and that is a server open to all.
        raise InvalidRequest("--config file: api-key has no value; leave it out", field="api_key")
