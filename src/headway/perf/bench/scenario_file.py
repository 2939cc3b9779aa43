"""Scenarios from YAML files: strict, so that a misspelt key is an error and not a default.

Those that ship with the package are found by name, all others by path. Keys of earlier versions
are read as what they are called now.
"""

from __future__ import annotations

from dataclasses import replace
from importlib import resources
from pathlib import Path

import yaml

from headway.codec import convert
from headway.errors import InvalidRequest
from headway.perf.bench.scenario import Scenario
from headway.scheduling.policy import PARAMETERS, split_options

DEFAULT = "policies"
OURS = (
    "model",
    "policy",
    "policy_options",
    *PARAMETERS,
    "max_num_seqs",
    "max_model_len",
    "kv_cache_memory",
    "kv_reservation",
    "enable_prefix_caching",
    "record",
)
"""Settings of the engine that a scenario has its own keys for, or that must be what they are."""
_RENAMED = {"seats": "slots", "outside": "external"}
"""Keys of systems and workloads, as files of earlier versions call them."""


def scenario_names() -> tuple[str, ...]:
    """Those that ship with the package."""
    folder = resources.files("headway.perf.bench") / "scenarios"
    names = (entry.name for entry in folder.iterdir())
    return tuple(sorted(name.removesuffix(".yaml") for name in names if name.endswith(".yaml")))


def load_scenario(source: str) -> Scenario:
    """The scenario of that name, or in that file. Traces are looked for beside the file.

    Raises `InvalidRequest` naming the key at fault.
    """
    if source in scenario_names():
        text = (resources.files("headway.perf.bench") / "scenarios" / f"{source}.yaml").read_text(
            "utf-8"
        )
        return parse_scenario(text, name=source)
    path = Path(source)
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise InvalidRequest(
            f"no scenario {source}: neither a file that can be read nor one of "
            f"{', '.join(scenario_names())}",
            field="scenario",
        ) from error
    except UnicodeDecodeError as error:
        raise InvalidRequest(f"{source} is not text in UTF-8", field="scenario") from error
    return _with_traces(parse_scenario(text, name=source), path.parent)


def parse_scenario(text: str, *, name: str = "scenario") -> Scenario:
    """The scenario that a YAML text describes; `name` is what errors call it."""
    try:
        content = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise InvalidRequest(f"{name} is not valid YAML: {error}", field="scenario") from error
    if not isinstance(content, dict):
        raise InvalidRequest(f"{name} must hold a mapping", field="scenario")
    engine = content.get("engine")
    for key in engine.keys() & OURS if isinstance(engine, dict) else ():
        raise InvalidRequest(f"{name}: engine: {key} cannot be set here", field=key)
    for key in ("systems", "workloads"):
        if isinstance(content.get(key), list):
            content[key] = [_renamed(entry) for entry in content[key]]
    if isinstance(systems := content.get("systems"), list):
        content["systems"] = [_with_options(system) for system in systems]
    try:
        return convert(Scenario, content, name)
    except InvalidRequest as error:
        message = error.message if error.message.startswith(name) else f"{name}: {error.message}"
        raise InvalidRequest(message, field=error.field) from error


def _renamed(entry: object) -> object:
    if not isinstance(entry, dict):
        return entry
    return {_RENAMED.get(key, key): value for key, value in entry.items()}


def _with_options(system: object) -> object:
    """A system of which the policies' parameters are in the field that holds them."""
    if not isinstance(system, dict):
        return system
    own, options = split_options(system)
    return {**own, "policy_options": options} if options else own


def _with_traces(scenario: Scenario, folder: Path) -> Scenario:
    return replace(
        scenario,
        workloads=tuple(
            replace(load, trace=str(folder / load.trace)) if load.trace else load
            for load in scenario.workloads
        ),
    )
