"""`headway bench policies`: the same requests through every policy, and through others' programs.

A scenario says which systems and which workloads. The tables go to standard output, progress to
standard error, and the report is written anew after every workload, so that a run that is broken
off has not been for nothing.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import fields, replace

from headway.cli.bench import check_writable, pairs_from
from headway.cli.flags import add_flags
from headway.cli.main import run_async
from headway.cli.price_flags import add_price_flags, price_from
from headway.config import EngineConfig
from headway.errors import InvalidRequest
from headway.perf.bench.policies import compare
from headway.perf.bench.scenario import DEFAULT, Scenario, System, load_scenario, scenario_names
from headway.perf.report.figures import tables
from headway.perf.report.headline import first_words
from headway.perf.report.page import write_page
from headway.perf.report.run import Report, write_report
from headway.types.objectives import parse_objectives

_GIVEN = (
    "dtype",
    "kv_cache_dtype",
    "device",
    "backend",
    "isa",
    "threads",
    "pin_threads",
    "block_size",
    "max_num_batched_tokens",
    "max_num_partial_prefills",
)
"""Settings of the engine that may replace the scenario's."""


def configure(parser: argparse.ArgumentParser) -> None:
    parser.set_defaults(run=run)
    parser.add_argument(
        "scenario",
        nargs="?",
        default=DEFAULT,
        help=f"a YAML file, or one of {', '.join(scenario_names())} (default: {DEFAULT})",
    )
    parser.add_argument("--model", help="instead of the scenario's")
    parser.add_argument(
        "--systems", nargs="+", metavar="NAME", help="only these of the scenario's systems"
    )
    parser.add_argument(
        "--workloads", nargs="+", metavar="NAME", help="only these of the scenario's workloads"
    )
    parser.add_argument(
        "--url",
        nargs="+",
        default=[],
        metavar="URL",
        help="servers, of whatever kind, to set beside the scenario's systems",
    )
    parser.add_argument("--repeats", type=int, metavar="N", help="for every system")
    parser.add_argument(
        "--slo",
        metavar="LIST",
        help="objectives of all workloads instead of the scenario's, such as "
        "ttft_p99=1s,tpot_p99=50ms: the report says what each system attained",
    )
    add_price_flags(parser, of="this machine")
    parser.add_argument("--json", metavar="FILE", help="write the report as JSON")
    parser.add_argument("--html", metavar="FILE", help="write the report as one HTML page")
    parser.add_argument(
        "--about", nargs="+", default=[], metavar="KEY=TEXT", help="what else the report is to say"
    )
    leave_out = tuple(each.name for each in fields(EngineConfig) if each.name not in _GIVEN)
    add_flags(parser.add_argument_group("engine"), EngineConfig, leave_out=leave_out)


def run(arguments: argparse.Namespace) -> int:
    scenario = adapted(load_scenario(arguments.scenario), arguments)
    about = pairs_from(arguments.about, field="--about")

    def on_report(report: Report) -> None:
        _write(report, arguments.json, arguments.html)

    check_writable(arguments.json, "--json")
    check_writable(arguments.html, "--html")
    comparison = run_async(compare(scenario, log=_log, on_report=on_report, about=about))
    print(first_words(comparison.report) + tables(comparison.report), end="")
    return 1 if comparison.failures else 0


def adapted(scenario: Scenario, arguments: argparse.Namespace) -> Scenario:
    """The scenario with what the command line says instead; raises `InvalidRequest`."""
    given = {
        name: value for name in _GIVEN if (value := getattr(arguments, name, None)) is not None
    }
    scenario = replace(scenario, engine=replace(scenario.engine, **given))
    if arguments.model is not None:
        scenario = replace(scenario, model=arguments.model)
    price = price_from(arguments)
    if price is not None:
        scenario = replace(scenario, price_per_hour=price.per_hour, currency=price.currency)
    if arguments.slo is not None:
        parse_objectives(arguments.slo)
        scenario = replace(
            scenario,
            workloads=tuple(replace(load, slo=arguments.slo) for load in scenario.workloads),
        )
    if arguments.repeats is not None:
        scenario = replace(
            scenario,
            repeats=arguments.repeats,
            systems=tuple(replace(system, repeats=None) for system in scenario.systems),
            workloads=tuple(replace(load, repeats=None) for load in scenario.workloads),
        )
    return _beside(_chosen(scenario, arguments.systems, arguments.workloads), arguments.url)


def _beside(scenario: Scenario, urls: list[str]) -> Scenario:
    """The scenario with these servers as further systems, on every workload."""
    others = tuple(System(name=url, external="url", url=url) for url in urls)
    loads = tuple(
        load if load.systems is None else replace(load, systems=(*load.systems, *urls))
        for load in scenario.workloads
    )
    return replace(scenario, systems=scenario.systems + others, workloads=loads)


def _chosen(scenario: Scenario, systems: list[str] | None, workloads: list[str] | None) -> Scenario:
    for flag, asked, there in (
        ("--systems", systems, [system.name for system in scenario.systems]),
        ("--workloads", workloads, [load.name for load in scenario.workloads]),
    ):
        for name in asked or ():
            if name not in there:
                raise InvalidRequest(
                    f"{flag}: the scenario has no {name!r}; it has "
                    + ", ".join(repr(each) for each in there),
                    field=flag,
                )
    kept = tuple(s for s in scenario.systems if systems is None or s.name in systems)
    names = [system.name for system in kept]
    loads = tuple(
        replace(load, systems=tuple(name for name in load.systems if name in names))
        if load.systems is not None
        else load
        for load in scenario.workloads
        if workloads is None or load.name in workloads
    )
    return replace(scenario, systems=kept, workloads=loads)


def _write(report: Report, json: str | None, html: str | None) -> None:
    if json is not None:
        write_report(json, report)
    if html is not None:
        write_page(html, report)


def _log(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
