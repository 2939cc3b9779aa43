"""`headway simulate`: a workload on a machine that need not be there, in a fraction of its time.

The shipped scheduler, policies and block pool run under a virtual clock; only the steps' times come
from a profile, measured (`headway profile`) or made from published rates (`--device`). It also
searches for the batch, the number of machines or the rate at which objectives hold, compares the
policies, and replays recordings.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator
from dataclasses import fields, replace
from pathlib import Path

from headway.cli.flags import add_flags, collect, settings_of, whole_number
from headway.cli.machine_flags import add_machine_flags, profile_from
from headway.cli.workload_flags import (
    add_objective_flags,
    add_workload_flags,
    objectives_from,
    workload_from,
)
from headway.config import EngineConfig
from headway.errors import InvalidRequest
from headway.perf.records.summary import summarize
from headway.perf.report.run import Report, Run, build_report
from headway.perf.report.slots import bars_of, idle_share, percent_of_limit
from headway.perf.sim.capacity import (
    BUDGETS,
    WIDTHS,
    CapacityCandidate,
    CapacitySearch,
    SearchResult,
)
from headway.perf.sim.fleet import ROUTERS
from headway.perf.sim.predict import measured, predict, recorded_setup, recorded_workload
from headway.perf.sim.replay import replay
from headway.perf.sim.simulate import MOST_BARS, Setup, run_of, simulate
from headway.perf.workload import Workload
from headway.perf.workload.synthetic import at_rate
from headway.recording.format import Recording
from headway.recording.reader import read_recordings
from headway.scheduling.policy import POLICIES, policy_config
from headway.steptime.profiles import Profile, find_profile
from headway.types import Limits
from headway.types.engine import PolicyConfig, SchedulerConfig
from headway.types.objectives import Objective

ENGINE_FLAGS = (
    "policy",
    "policy_options",
    "max_model_len",
    "max_num_seqs",
    "max_num_batched_tokens",
    "max_num_partial_prefills",
    "block_size",
    "kv_cache_memory",
    "kv_reservation",
    "enable_prefix_caching",
)
"""Settings of the engine that mean something without one."""
_LEFT_OUT = tuple(each.name for each in fields(EngineConfig) if each.name not in ENGINE_FLAGS)


def configure(parser: argparse.ArgumentParser) -> None:
    add_machine_flags(parser.add_argument_group("machine"))
    engine = parser.add_argument_group("engine (default: as in the profile)")
    add_flags(engine, EngineConfig, leave_out=_LEFT_OUT)
    engine.add_argument("--num-blocks", type=whole_number, metavar="N", help="of the KV cache")
    fleet = parser.add_argument_group("fleet")
    fleet.add_argument("--replicas", type=int, metavar="N", help="machines (default: 1)")
    fleet.add_argument("--router", choices=ROUTERS, help="before several (default: round-robin)")
    workload = parser.add_argument_group("workload")
    add_workload_flags(workload)
    add_objective_flags(workload)
    wanted = parser.add_argument_group("what is asked").add_mutually_exclusive_group()
    wanted.add_argument(
        "--find",
        choices=("replicas", "batch", "rate"),
        help="the smallest fleet, the best batch or the highest rate that holds the objectives; "
        "a --max-num-seqs or --max-num-batched-tokens that is given stays",
    )
    wanted.add_argument("--compare-policies", action="store_true", help="all, side by side")
    wanted.add_argument(
        "--replay",
        type=Path,
        metavar="STEPS",
        help="plan a recording's steps anew (see `headway serve --record`), and predict its times",
    )
    parser.add_argument(
        "--no-residuals",
        action="store_true",
        help="every step takes exactly its predicted time, without the scatter that was measured",
    )
    parser.add_argument("--json", metavar="FILE", help="write the report as JSON")
    parser.add_argument("--html", metavar="FILE", help="write the report as one HTML page")
    parser.add_argument("--records", metavar="FILE", help="write every request's record")


def run(arguments: argparse.Namespace) -> int:
    if arguments.replay is not None:
        return _replay(arguments)
    objectives = objectives_from(arguments)
    profile = profile_from(arguments)
    setup = setup_from(arguments, profile)
    workload = workload_from(arguments)
    if not workload.requests:
        raise InvalidRequest("the workload has no requests", field="--num-prompts")
    began = time.perf_counter()
    if arguments.find is not None:
        found = _search(arguments, setup, workload, objectives)
        if found.best is None:
            _say_nothing_holds(found)
            return 1
        setup, workload = found.best.setup, at_rate(workload, found.best.rate_scale)
    policies = [setup.scheduler.policy]
    if arguments.compare_policies:
        options = collect(EngineConfig, _engine_only(arguments)).policy_options
        policies = [policy_config(name, options) for name in POLICIES]
    runs = [
        _simulated(arguments, _under(setup, policy), workload, objectives) for policy in policies
    ]
    took = time.perf_counter() - began
    report = _report(arguments, runs, profile, setup.replicas)
    if arguments.find is None:
        simulated = sum(run.summary["duration"] for run in runs)
        print(
            f"{len(runs) * len(workload.requests):,} requests over {simulated:,.0f} s simulated in "
            f"{took:.1f} s: {simulated / took:,.0f} times as fast",
            file=sys.stderr,
        )
    _write(arguments, report, runs)
    return 0


def setup_from(arguments: argparse.Namespace, profile: Profile) -> Setup:
    """The profile's engine with the settings that the flags pin."""
    config = collect(EngineConfig, _engine_only(arguments))
    given = arguments.block_size
    measured = profile.scheduler
    block_size = measured.block_size if given is None else config.block_size
    num_blocks = measured.num_blocks * measured.block_size // block_size
    if arguments.num_blocks is not None and config.kv_cache_memory is not None:
        raise InvalidRequest(
            "--num-blocks and --kv-cache-memory exclude each other", field="--num-blocks"
        )
    if config.kv_cache_memory is not None:
        num_blocks = int(config.kv_cache_memory // (profile.sizes.kv_bytes_per_token * block_size))
    if arguments.num_blocks is not None:
        num_blocks = arguments.num_blocks
    if num_blocks < 1:
        raise InvalidRequest("the KV cache needs one block at least", field="--num-blocks")
    replicas = 1 if arguments.replicas is None else arguments.replicas
    if replicas < 1:
        raise InvalidRequest(f"--replicas must be at least 1, got {replicas}", field="--replicas")
    return Setup(
        profile=profile,
        scheduler=SchedulerConfig(
            policy=policy_config(config.policy, config.policy_options),
            limits=_limits(arguments, config, measured.limits, num_blocks * block_size),
            num_blocks=num_blocks,
            block_size=block_size,
            prefix_caching=config.enable_prefix_caching,
            reservation=config.kv_reservation,
        ),
        replicas=replicas,
        router=arguments.router or "round-robin",
    )


def _under(setup: Setup, policy: PolicyConfig) -> Setup:
    return replace(setup, scheduler=replace(setup.scheduler, policy=policy))


def _engine_only(arguments: argparse.Namespace) -> argparse.Namespace:
    """Without flags that an engine spells alike but that mean another thing here."""
    return argparse.Namespace(**{name: getattr(arguments, name) for name in _engine_names()})


def _engine_names() -> list[str]:
    return [setting.name for setting in settings_of(EngineConfig, leave_out=_LEFT_OUT)]


def _limits(
    arguments: argparse.Namespace, config: EngineConfig, found: Limits, room: int
) -> Limits:
    partial = arguments.max_num_partial_prefills
    return Limits(
        max_num_seqs=config.max_num_seqs or found.max_num_seqs,
        max_num_batched_tokens=config.max_num_batched_tokens or found.max_num_batched_tokens,
        max_num_partial_prefills=(
            found.max_num_partial_prefills if partial is None else config.max_num_partial_prefills
        ),
        max_model_len=min(config.max_model_len or found.max_model_len, room),
    )


def _simulated(
    arguments: argparse.Namespace,
    setup: Setup,
    workload: Workload,
    objectives: tuple[Objective, ...],
) -> Run:
    drawn = (arguments.json or arguments.html) and len(workload.requests) <= MOST_BARS
    outcome = simulate(
        workload,
        setup,
        seed=arguments.seed,
        residuals=not arguments.no_residuals,
        keep_bars=bool(drawn),
    )
    system = setup.scheduler.policy.name
    if setup.replicas > 1:
        system += f", {setup.replicas} replicas"
    return run_of(outcome, workload=workload, setup=setup, system=system, objectives=objectives)


def _search(
    arguments: argparse.Namespace,
    setup: Setup,
    workload: Workload,
    objectives: tuple[Objective, ...],
) -> SearchResult:
    search = CapacitySearch(
        workload,
        objectives,
        seed=arguments.seed,
        residuals=not arguments.no_residuals,
        on_candidate=lambda candidate: print(candidate_line(candidate), file=sys.stderr),
    )
    if arguments.find == "rate":
        return search.rate(setup)
    pinned = setup.scheduler.limits
    widths = WIDTHS if arguments.max_num_seqs is None else (pinned.max_num_seqs,)
    budgets = (
        BUDGETS if arguments.max_num_batched_tokens is None else (pinned.max_num_batched_tokens,)
    )
    if arguments.find == "batch":
        return search.batch(setup, widths, budgets)
    if arguments.replicas is not None:
        raise InvalidRequest("--find replicas finds them: leave it out", field="--replicas")
    return search.replicas(setup, widths, budgets)


def candidate_line(candidate: CapacityCandidate) -> str:
    """One candidate and how it fared, for people."""
    setup, limits = candidate.setup, candidate.setup.scheduler.limits
    fared = ", ".join(
        f"{met.objective.metric} {'-' if met.value is None else f'{met.value:.3g} s'}"
        f"{'' if met.met else ' (missed)'}"
        for met in candidate.objectives
    )
    rate = "" if candidate.rate_scale == 1.0 else f", rate x {candidate.rate_scale:.3g}"
    attained = 100 * candidate.attainment
    return (
        f"{setup.replicas} x max_num_seqs {limits.max_num_seqs}, max_num_batched_tokens "
        f"{limits.max_num_batched_tokens}{rate}: {attained:.1f} % attained, {fared}"
    )


def _say_nothing_holds(found: SearchResult) -> None:
    nearest = max(found.tried, key=lambda candidate: candidate.rank)
    print("Nothing that was tried holds the objectives. The nearest:")
    print(f"  {candidate_line(nearest)}")


def _report(
    arguments: argparse.Namespace, runs: list[Run], profile: Profile, replicas: int
) -> Report:
    from headway.perf.report.figures import tables

    price = arguments.price_per_hour
    report = build_report(
        title=f"{profile.model} on {replicas} x {profile.machine.device}, simulated"
        if replicas > 1
        else f"{profile.model} on {profile.machine.device}, simulated",
        runs=runs,
        about=dict(_about(profile)),
        price_per_hour=None if price is None else price * replicas,
        notes=tuple(_notes(profile)),
    )
    print(tables(report), end="")
    if arguments.find is not None:
        settings = runs[0].settings
        print("\nFound: " + ", ".join(f"{name} {value}" for name, value in settings.items()))
    return report


def _about(profile: Profile) -> Iterator[tuple[str, str]]:
    from headway import __version__

    found = profile.hardware
    yield "Simulated machine", profile.machine.device
    yield "Model", f"{profile.model}, {found.dtype}, KV cache {found.kv_cache_dtype}"
    yield "Headway", __version__


def _notes(profile: Profile) -> Iterator[str]:
    yield "Simulated: the shipped scheduler and policies, on steps whose times come from a model."
    if profile.fit is None:
        yield "The machine was not measured: published rates, and shares of them that are assumed."
    else:
        yield (
            f"The model was fitted to {profile.fit.steps:,} measured steps, with a mean error of "
            f"{100 * profile.fit.mean:.1f} %."
        )


def _write(arguments: argparse.Namespace, report: Report, runs: list[Run]) -> None:
    if arguments.json:
        from headway.perf.report.json import write_report

        write_report(arguments.json, report)
    if arguments.html:
        from headway.perf.report.page import write_page

        write_page(arguments.html, report)
    if arguments.records:
        from headway.perf.records.record import write_records

        write_records(arguments.records, [record for each in runs for record in each.records])


def _replay(arguments: argparse.Namespace) -> int:
    _check_replay(arguments)
    same = True
    runs: list[Run] = []
    profile = None
    for number, recording in enumerate(read_recordings(arguments.replay), 1):
        outcome = replay(recording)
        same = same and outcome.identical
        print(f"engine {number}: {outcome.steps:,} of {outcome.recorded:,} steps planned alike")
        if outcome.difference is not None:
            print(f"  first difference: {outcome.difference}")
        profile = _profile_of(arguments, recording)
        if profile is not None:
            group = f"engine {number}, {recording.engine.scheduler.policy.name}"
            runs += [
                replace(run, group=group) for run in _side_by_side(arguments, recording, profile)
            ]
    if profile is not None and runs:
        print()
        _write(arguments, _report(arguments, runs, profile, 1), runs)
    return 0 if same else 1


def _check_replay(arguments: argparse.Namespace) -> None:
    """A recording has its own workload and engine: flags for these would have no effect."""
    parser = argparse.ArgumentParser()
    add_workload_flags(parser)
    names = [*vars(parser.parse_args([])), *_engine_names(), "num_blocks", "replicas", "router"]
    for name in names:
        if name != "seed" and getattr(arguments, name) is not None:
            flag = "--" + name.replace("_", "-")
            raise InvalidRequest(f"{flag} would have no effect on --replay", field=flag)


def _profile_of(arguments: argparse.Namespace, recording: Recording) -> Profile | None:
    """The profile that was asked for, or the kept one of the recorded engine, if there is one."""
    if arguments.profile or arguments.device:
        return profile_from(arguments)
    engine, found = recording.engine, recording.engine.hardware
    return find_profile(
        model=arguments.model or engine.model,
        dtype=found.dtype,
        kv_cache_dtype=found.kv_cache_dtype,
        threads=found.threads,
    )


def _side_by_side(
    arguments: argparse.Namespace, recording: Recording, profile: Profile
) -> Iterator[Run]:
    """The recorded run, and what the simulator makes of it."""
    workload = recorded_workload(recording)
    if not workload.requests:
        return
    objectives = objectives_from(arguments)
    records, duration, gaps = measured(recording)
    slots, bars = bars_of(recording)
    yield Run(
        system="measured",
        group=workload.name,
        summary=summarize(records, duration=duration, objectives=objectives, gaps=gaps),
        records=records,
        slots=slots,
        bars=bars,
        idle_share=idle_share(recording, slots),
        percent_of_limit=percent_of_limit(recording),
    )
    yield run_of(
        predict(recording, profile, seed=arguments.seed, residuals=not arguments.no_residuals),
        workload=workload,
        setup=recorded_setup(recording, profile),
        system="predicted",
        objectives=objectives,
    )
