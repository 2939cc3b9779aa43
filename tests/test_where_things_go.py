"""Every row of the table in CONTRIBUTING.md is true of the code as it is."""

from __future__ import annotations

import argparse
import ast
import inspect
import json
import re
from collections.abc import Callable
from dataclasses import fields, is_dataclass
from importlib import import_module
from pathlib import Path
from typing import get_args

import pytest

from headway.cli.serve import configure
from headway.config import EngineConfig, PolicyName, ServerConfig

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "src" / "headway"
ROW = re.compile(r"^\| ([a-z][^|]+) \| ([^|]+) \| ([^|]+) \|$", re.MULTILINE)
CODE = re.compile(r"`([\w./]+)`")


def rows(name: str) -> dict[str, str]:
    text = (ROOT / name).read_text()
    return {found[1].strip(): f"{found[2]} {found[3]}" for found in ROW.finditer(text)}


TABLE = rows("CONTRIBUTING.md")


def text_of(*names: str) -> str:
    return "\n".join((PACKAGE / name).read_text() for name in names)


def modules_in(folder: str) -> set[str]:
    return {path.stem for path in (PACKAGE / folder).glob("*.py")} - {"__init__"}


def module_name(thing: Callable[..., object]) -> str:
    return thing.__module__.rpartition(".")[2]


def policies() -> None:
    from headway.scheduling.policy import POLICIES
    from headway.scheduling.policy.base import Policy

    shipped = modules_in("scheduling/policy") - {"base"}
    assert {module_name(make) for make in POLICIES.values()} == shipped
    assert all(isinstance(make, type) and Policy in make.__mro__ for make in POLICIES.values())
    assert set(POLICIES) == set(get_args(PolicyName))


def policy_parameters() -> None:
    from headway.scheduling.policy import PARAMETERS, POLICIES

    declared: set[str] = set()
    for policy, make in POLICIES.items():
        if isinstance(make, type) and is_dataclass(make):
            declared |= {f"{policy}_{field.name}" for field in fields(make)}
    assert declared == set(PARAMETERS)
    assert declared
    for name in declared:
        # Only docstrings and comments may name one; the code derives it.
        users = [
            path.name
            for path in PACKAGE.rglob("*.py")
            if re.search(rf"\b{name}\b *[=:(]|\.{name}\b", path.read_text())
        ]
        assert users == []


def proposers() -> None:
    from headway.engine.build import draft_proposers
    from headway.scheduling.drafts import Proposer
    from headway.scheduling.speculation.speculation import Speculation

    assert inspect.isclass(Proposer)
    assert callable(draft_proposers)
    assert "proposers" in inspect.signature(Speculation.__init__).parameters


def routers() -> None:
    from headway import routing

    assert set(routing._MAKERS) == set(routing.ROUTERS) == set(get_args(routing.RouterName))
    assert all(hasattr(make, "choose") for make in routing._MAKERS.values())
    shared = {"base", "prefix_memory", "request", "roles", "step_costs", "view"}
    made = {module_name(make) for make in routing._MAKERS.values()}
    assert made == modules_in("routing") - shared


def families() -> None:
    from headway.models import FAMILIES

    shared = {"layers"}
    assert {module_name(build) for build in FAMILIES.values()} == modules_in("models") - shared
    golden = (ROOT / "tests" / "models" / "families.py").read_text()
    assert all(f'"{name}"' in golden for name in FAMILIES)


def formats() -> None:
    from headway.checkpoint.prepare import open_checkpoint

    source = inspect.getsource(open_checkpoint)
    assert "open_directory" in source
    assert "open_gguf_checkpoint" in source


def operations() -> None:
    from headway.ops import trace
    from headway.ops.protocol import Ops
    from headway.ops.reference.backend import ReferenceOps

    names = {name for name in vars(Ops) if not name.startswith("_")}
    assert {"embed", "attention", "lm_head"} <= names
    assert names <= set(vars(ReferenceOps))
    assert names <= set(vars(trace.Tracer))
    lowering = text_of("ops/native/lower.py")
    ops = [name for name in vars(trace) if name.endswith("Op") and name != "Op"]
    assert [name for name in ops if name not in lowering] == []


def kernels() -> None:
    folder = ROOT / "native" / "kernels"
    text = "".join(path.read_text() for path in folder.glob("*.h"))
    included = set(re.findall(r'#include "(?:\w+/)*(\w+\.h)"', text))
    assert {path.name for path in folder.glob("*.h")} - included == {"all.h"}


def sampling() -> None:
    from headway.types import ResolvedSampling, SamplingParams

    # What speaks of text, or becomes several requests, ends in the API process.
    text_only = {"n", "stop", "include_stop_str_in_output", "ignore_eos", "skip_special_tokens"}
    text_only |= {"use_beam_search", "length_penalty"}
    asked = {field.name for field in fields(SamplingParams)}
    resolved = {field.name for field in fields(ResolvedSampling)}
    assert asked - text_only == resolved
    for text, names in (
        (text_of("llm/resolve.py"), resolved),
        (text_of("server/openai/sampling.py"), asked),
        (text_of("server/openai/schema.py"), asked),
    ):
        assert [name for name in names if not re.search(rf"\b{name}\b", text)] == []
    runner = text_of("runner/sampling/steps.py", "runner/batch.py", "runner/sampling/sampler.py")
    runner += text_of("runner/torch.py")
    elsewhere = {
        "max_tokens",
        "seed",
        "prompt_logprobs",
    }  # scheduler, Philox's key, the runner's spans
    assert [name for name in resolved - elsewhere if not re.search(rf"\.{name}\b", runner)] == []


def endpoints() -> None:
    from headway.server.endpoints import ENDPOINTS

    handlers = {getattr(each.handler or each.sender, "__module__", "") for each in ENDPOINTS}
    folders = ("openai", "responses", "anthropic", "llamacpp", "ollama", "page")
    others = ("system", "openapi", "refusing", "replicas")
    prefixes = tuple(f"headway.server.{name}." for name in folders) + tuple(
        f"headway.server.{name}" for name in others
    )
    assert all(name.startswith(prefixes) for name in handlers)
    assert len(handlers) >= 4


def dialects() -> None:
    folders = {path.parent.name for path in (PACKAGE / "server").glob("*/endpoints.py")}
    assert folders == {"responses", "anthropic", "llamacpp", "ollama", "page"}
    for name in folders - {"page"}:
        text = "".join(path.read_text() for path in (PACKAGE / "server" / name).glob("*.py"))
        assert "ChatBody" in text or "CompletionBody" in text
        assert re.search(r"class \w+Formatter\b", text)


def message_formats() -> None:
    from headway.message import REASONING_FORMATS, TOOL_FORMATS

    document = (ROOT / "docs" / "tools.md").read_text()
    named = set(re.findall(r"`(\w+)`", document))
    assert set(TOOL_FORMATS) | set(REASONING_FORMATS) <= named


def client_calls() -> None:
    tests = (ROOT / "tests" / "clients").glob("test_*.py")
    assert sum("shows(" in path.read_text() for path in tests) >= 6


def settings() -> None:
    parser = argparse.ArgumentParser()
    configure(parser)
    known = {action.dest for action in parser._actions}
    for config in (EngineConfig, ServerConfig):
        names = {field.name for field in fields(config)} - {"policy_options"}
        assert names - known == set()


def harmless_fields() -> None:
    from headway.server.openai.harmless import HarmlessFields
    from headway.server.openai.schema import ChatBody, CompletionBody

    names = HarmlessFields.__struct_fields__
    for body in (ChatBody, CompletionBody):
        assert set(names) <= set(body.__struct_fields__)
    text = (ROOT / "docs" / "fields.md").read_text()
    assert [name for name in names if f"`{name}`" not in text] == []


def flags_of_others() -> None:
    from headway.cli.compatibility import SERVERS, rules
    from headway.cli.flags_document import document

    tables = {path.stem for path in (PACKAGE / "cli" / "data").glob("*.toml")}
    assert tables == set(SERVERS)
    assert all(rules(server) for server in SERVERS)
    assert (ROOT / "docs" / "flags.md").read_text() == document()


def commands() -> None:
    from headway.cli.main import COMMANDS

    for command in COMMANDS.values():
        module, _, function = command.configure.partition(":")
        assert callable(getattr(import_module(module), function))


def lengths() -> None:
    from headway.perf.workload import lengths as module

    assert {make.__module__ for make, _ in module._KINDS.values()} == {module.__name__}


def traces() -> None:
    assert {"_azure", "_mooncake"} <= {
        node.name
        for node in ast.parse(text_of("perf/workload/traces.py")).body
        if isinstance(node, ast.FunctionDef)
    }


def figures() -> None:
    from headway.perf.report.figures import FIGURES

    assert len(FIGURES) > 5
    assert "p99_e2el_ms" in text_of("perf/report/figures.py")
    assert "summarize" in text_of("perf/records/summary.py")


def features() -> None:
    from headway.steptime.model import StepTimeModel
    from headway.steptime.shape import Features

    assert len(fields(Features)) > 4
    annotated = inspect.signature(StepTimeModel).parameters["coefficients"].annotation
    assert "Features" in str(annotated)
    assert "version=" in text_of("steptime/profiles.py")


def simulated() -> None:
    from headway.perf.sim.roofline import device_names, model_names

    folder = PACKAGE / "perf" / "sim" / "data"
    devices = json.loads((folder / "devices.json").read_text())["devices"]
    models = json.loads((folder / "models.json").read_text())["models"]
    assert list(device_names()) == list(devices)
    assert list(model_names()) == list(models)


def files() -> None:
    # Who decodes JSON alone reads somebody else's: a client's, a server's, a hub's, a trace's, an
    # operator's flag, a model's, or the lines of a process that it started.
    foreign = {
        *("checkpoint/huggingface/text.py", "checkpoint/safetensors.py", "server/body.py"),
        *("server/json_bounds.py", "server/openai/schema.py", "server/ollama/formatter.py"),
        "server/responses/items.py",
        "server/anthropic/unfinished.py",
        *(
            "cli/bench_serve.py",
            "cli/compatibility.py",
            "cli/json_flags.py",
            "types/sampling_defaults.py",
            "types/speculation_json.py",
            "cli/explain.py",
            "perf/bench/serve.py",
            "perf/bench/http_client.py",
        ),
        *("grammar/translate.py", "message/writing.py", "llm/message_form.py"),
        *("perf/bench/padded.py", "perf/bench/transformers_baseline.py"),
        *("perf/quality/evaluate.py", "perf/quality/program.py", "perf/workload/traces.py"),
    }
    reads = re.compile(r"\bjson\.loads?\(|msgspec\.json\.(decode\(|Decoder)")
    readers = {
        str(path.relative_to(PACKAGE))
        for path in PACKAGE.rglob("*.py")
        if reads.search(path.read_text())
    }
    assert readers == foreign | {"codec.py"}


def metrics() -> None:
    loop = text_of("engine/loop.py", "engine/process.py", "scheduling/scheduler.py")
    assert "prometheus" not in loop
    assert "subscribe" in text_of("server/metrics.py")


def counters() -> None:
    from headway.scheduling.stats import SchedulerStats
    from headway.wire import EngineStats

    names = {field.name for field in fields(SchedulerStats)}
    assert names <= set(EngineStats.__struct_fields__)
    loop = text_of("engine/loop.py")
    assert [name for name in names if name not in loop] == []


def panels() -> None:
    folder = ROOT / "examples" / "deploy" / "grafana"
    drawn = json.loads((folder / "dashboards" / "headway.json").read_text())["panels"]
    titles = [panel["title"] for panel in drawn if panel["type"] != "row"]
    text = (folder / "panels.py").read_text()
    assert len(re.findall(r"^ +Panel\($", text, re.MULTILINE)) == len(titles)


def pages_of_documents() -> None:
    menu = (ROOT / "mkdocs.yml").read_text()
    pages = (ROOT / "docs").glob("*.md")
    assert [page.name for page in pages if page.name not in menu] == []


CHECKS: dict[str, Callable[[], None]] = {
    "batching policy": policies,
    "parameter of a policy": policy_parameters,
    "proposer of draft tokens": proposers,
    "router": routers,
    "model family": families,
    "weight or tokenizer format": formats,
    "operation of models": operations,
    "native kernel": kernels,
    "sampling feature": sampling,
    "endpoint": endpoints,
    "dialect of the HTTP API": dialects,
    "format of tool calls or reasoning": message_formats,
    "call of a client library": client_calls,
    "field that asks for nothing here": harmless_fields,
    "flag of another server": flags_of_others,
    "setting": settings,
    "command": commands,
    "distribution of lengths": lengths,
    "trace format": traces,
    "figure of a report": figures,
    "feature of the step-time model": features,
    "machine or model to simulate": simulated,
    "file that Headway writes and reads": files,
    "metric of steps or tokens": metrics,
    "counter of the scheduler": counters,
    "panel of the Grafana dashboard": panels,
    "page of the documents": pages_of_documents,
}


def test_every_row_has_a_check() -> None:
    assert set(CHECKS) == set(TABLE) - {"new thing"}


@pytest.mark.parametrize("row", CHECKS)
def test_what_the_table_says_is_so(row: str) -> None:
    CHECKS[row]()


def missing(cells: str) -> list[str]:
    """Files and names in backticks that are nowhere."""
    found = CODE.findall(cells)
    paths = [each for each in found if "/" in each or each.endswith((".py", ".h", ".json"))]
    places = [PACKAGE, ROOT]
    lost = [
        path
        for path in paths
        if "x.py" not in path and not any((place / path).exists() for place in places)
    ]
    files = [place / path for path in paths for place in places if (place / path).is_file()]
    text = "\n".join(path.read_text() for path in files)
    names = [each for each in found if each not in paths]
    folders = [PACKAGE / path for path in paths if (PACKAGE / path).is_dir()]
    text += "\n".join(path.read_text() for folder in folders for path in folder.rglob("*.py"))
    lost += [name for name in names if not re.search(rf"\b{re.escape(name)}\b", text)]
    return lost


@pytest.mark.parametrize("row", TABLE)
def test_files_and_names_of_the_table_exist(row: str) -> None:
    if row != "batching policy":  # its base class stands in a file that the row need not name
        assert missing(TABLE[row]) == []
    assert missing("`server/nowhere.py`") == ["server/nowhere.py"]
    assert missing("`no_such_name` in `wire.py`") == ["no_such_name"]


WALK = re.compile(r"^\| (\d+) \| `([\w/.]+)` \| `([\w.]+)` \|", re.MULTILINE)


def test_the_walk_through_a_chat_request_names_what_there_is() -> None:
    steps = WALK.findall((ROOT / "ARCHITECTURE.md").read_text())
    assert [int(number) for number, _, _ in steps] == list(range(1, len(steps) + 1))
    assert len(steps) > 15
    for _, path, name in steps:
        module = import_module("headway." + path.removesuffix(".py").replace("/", "."))
        found: object = module
        for part in name.split("."):
            found = getattr(found, part)
        assert getattr(found, "__module__", None) == module.__name__, f"{name} of {path}"
