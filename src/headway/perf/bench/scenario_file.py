"""Scenarios from YAML files: strict, so that a misspelt key is an error and not a default.

Those that ship with the package are found by name, all others by path.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, replace
from importlib import resources
from pathlib import Path
from typing import Any

import msgspec
import yaml

from headway.config import EngineConfig
from headway.errors import InvalidRequest
from headway.perf.bench.scenario import Scenario, ScenarioLoad, System

DEFAULT = "policies"
OURS = (
    "model",
    "policy",
    "dynamic_wait",
    "max_num_seqs",
    "max_model_len",
    "kv_cache_memory",
    "kv_reservation",
    "enable_prefix_caching",
    "record",
)
"""Settings of the engine that a scenario has its own words for, or that must be what they are."""


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
    _check_keys(content, Scenario, name)
    for key, kind in (("systems", System), ("workloads", ScenarioLoad)):
        for number, entry in enumerate(_list(content, key, name)):
            _check_keys(entry, kind, f"{name}: {key}[{number}]")
    engine = content.get("engine", {})
    _check_keys(engine, EngineConfig, f"{name}: engine", without=OURS)
    try:
        return msgspec.convert(content, Scenario)
    except msgspec.ValidationError as error:
        raise InvalidRequest(f"{name}: {error}", field=_place(str(error))) from error
    except InvalidRequest as error:
        raise InvalidRequest(f"{name}: {error.message}", field=error.field) from error


def _list(content: Mapping[str, Any], key: str, name: str) -> list[Any]:
    found = content.get(key)
    if not isinstance(found, list) or not found:
        raise InvalidRequest(f"{name}: {key} must be a list with at least one entry", field=key)
    return found


def _check_keys(
    found: object, kind: type[Any], where: str, *, without: tuple[str, ...] = ()
) -> None:
    if not isinstance(found, dict):
        raise InvalidRequest(f"{where} must be a mapping", field=where)
    known = {each.name for each in fields(kind)} - set(without)
    for key in found:
        if key in without:
            raise InvalidRequest(f"{where}: {key} cannot be set here", field=str(key))
        if key not in known:
            raise InvalidRequest(
                f"{where}: unknown key {key!r}; there are {', '.join(sorted(known))}",
                field=str(key),
            )


def _place(message: str) -> str | None:
    """The path in a message of msgspec's, such as "... - at `$.systems[0].seats`"."""
    _, found, path = message.rpartition("at `$.")
    return path.rstrip("`") if found else None


def _with_traces(scenario: Scenario, folder: Path) -> Scenario:
    return replace(
        scenario,
        workloads=tuple(
            replace(load, trace=str(folder / load.trace)) if load.trace else load
            for load in scenario.workloads
        ),
    )
