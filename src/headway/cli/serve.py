"""`headway serve [MODEL]`: the HTTP server, with its settings from flags or a file."""

from __future__ import annotations

import argparse
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from headway.cli.compatibility import adapt_settings
from headway.cli.flags import add_flags, collect, settings_of
from headway.cli.main import run_async
from headway.config import DEFAULT_MODEL, EngineConfig, ServerConfig
from headway.environment import from_environment
from headway.errors import InvalidRequest, did_you_mean
from headway.logs import start_logging
from headway.types.fleet import FleetConfig
from headway.types.response_cache import ResponseCacheConfig

logger = logging.getLogger(__name__)


def configure(parser: argparse.ArgumentParser) -> None:
    parser.set_defaults(run=run)
    parser.add_argument(
        "model",
        nargs="?",
        default=None,
        metavar="MODEL",
        help=f"known name, hub name, GGUF file or model directory (default: {DEFAULT_MODEL})",
    )
    parser.add_argument("--model", dest="model_flag", default=None, help=argparse.SUPPRESS)
    parser.add_argument("--config", metavar="FILE.yaml", help="file with any of these settings")
    parser.add_argument(
        "--help-all",
        action=_HelpAll,
        nargs=0,
        help="show this, and the flags of vLLM's server and llama-server with what becomes of each",
    )
    apart = [each.name for kind in (FleetConfig, ResponseCacheConfig) for each in settings_of(kind)]
    add_flags(parser.add_argument_group("server"), ServerConfig, leave_out=tuple(apart))
    add_flags(parser.add_argument_group("engine"), EngineConfig, leave_out=("model",))
    add_flags(parser.add_argument_group("several engines"), FleetConfig)
    add_flags(parser.add_argument_group("response cache"), ResponseCacheConfig)


def run(arguments: argparse.Namespace) -> int:
    # The server's libraries take half a second to import, which `--help` does without.
    from headway.llm.machine_bounds import check_machine
    from headway.llm.replicas import check_replicas
    from headway.server import run_server

    arguments.model = _model(arguments.model, arguments.model_flag)
    path = arguments.config or from_environment("--config")
    file, accepted = adapt_settings(read_config_file(Path(path)) if path else {})
    check_known(file, (EngineConfig, ServerConfig))
    engine = collect(EngineConfig, arguments, file=file)
    server = collect(ServerConfig, arguments, file=file)
    check_machine(engine, replicas=server.replicas)
    check_replicas(engine, server)
    start_logging(arguments.log_level, server.log_format)
    for flag in (*arguments.accepted_flags, *accepted):
        logger.info("accepted, and changes nothing: %s", flag)
    return run_async(run_server(engine, server))


class _HelpAll(argparse.Action):
    """Print the help, then the document on other servers' flags, and leave."""

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        from headway.cli.flags_document import document

        print(parser.format_help() + "\n" + document(), end="")
        parser.exit()


def _model(place: str | None, flag: str | None) -> str | None:
    """The model, which other servers take as a flag."""
    if place is not None and flag is not None and place != flag:
        raise InvalidRequest(f"the model is given twice, as {place} and as {flag}", field="model")
    return flag if place is None else place


def read_config_file(path: Path) -> dict[str, object]:
    """A YAML file of flags without their dashes (`max-num-seqs: 64`)."""
    try:
        content = yaml.load(path.read_text(encoding="utf-8"), Loader=_StrictLoader)  # noqa: S506
    except OSError as error:
        raise InvalidRequest(f"cannot read {path}: {error.strerror}", field="--config") from error
    except (yaml.YAMLError, UnicodeDecodeError, ValueError, RecursionError) as error:
        reason = " ".join(str(error).split())
        raise InvalidRequest(f"{path} is not valid YAML: {reason}", field="--config") from error
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise InvalidRequest(f"{path} must hold a mapping of settings", field="--config")
    return {_plain_name(key): value for key, value in content.items()}


class _StrictLoader(yaml.SafeLoader):
    """Plain YAML, but a setting that is given twice is an error; by itself the last would count."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key, _ in node.value:
            name = _plain_name(key.value)
            if name in seen:
                raise yaml.MarkedYAMLError(
                    problem=f"{key.value!r} is given twice", problem_mark=key.start_mark
                )
            seen.add(name)
        return super().construct_mapping(node, deep=deep)


def _plain_name(key: object) -> str:
    return str(key).replace("-", "_")


def check_known(file: Mapping[str, object], known: tuple[type[Any], ...]) -> None:
    """Raises `InvalidRequest` for a key of a config file that no settings class has."""
    names = {setting.name for settings in known for setting in settings_of(settings)}
    for key in file:
        if key not in names:
            raise InvalidRequest(
                f"--config file: unknown setting {key!r}{did_you_mean(key, names)}", field=key
            )
    if "api_key" in file and not file["api_key"]:
        # Most likely from a template whose variable was not set. As in YAML's other settings null
        # would mean the default, and that is a server open to all.
        raise InvalidRequest("--config file: api-key has no value; leave it out", field="api_key")
