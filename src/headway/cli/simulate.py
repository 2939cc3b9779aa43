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
from dataclasses import replace
from pathlib import Path

from headway.cli.price_flags import price_from
from headway.cli.simulate_report import show_report
from headway.cli.simulate_setup import (
    acceptance_from,
    add_setup_flags,
    engine_flag_names,
    profile_from,
    setup_from,
    with_every_policy,
    with_every_use_of_roles,
)
from headway.cli.workload_flags import (
    add_objective_flags,
    add_workload_flags,
    objectives_from,
    workload_from,
)
from headway.errors import InvalidRequest
from headway.perf.records.summary import summarize
from headway.perf.report.run import Run
from headway.perf.report.slots import bars_of, idle_share, percent_of_limit
from headway.perf.sim.answer import found_text, replayed_text, trials_of
from headway.perf.sim.capacity import (
    BUDGETS,
    WIDTHS,
    CapacityCandidate,
    CapacitySearch,
    SearchResult,
)
from headway.perf.sim.replay import (
    Replayed,
    measured,
    predict,
    recorded_setup,
    recorded_start,
    recorded_workload,
    replay,
    with_recorded_ids,
)
from headway.perf.sim.simulate import MOST_BARS, Setup, roles_text, run_of, simulate
from headway.perf.workload.synthetic import at_rate, rate_of
from headway.perf.workload.workload import Workload
from headway.recording.format import Recording, read_recordings
from headway.steptime.profiles import Profile, find_profile
from headway.types.objectives import Objective

FLEET_FLAGS = ("num_blocks", "replicas", "router", "roles", "fixed_roles")


def configure(parser: argparse.ArgumentParser) -> None:
    parser.set_defaults(run=run)
    add_setup_flags(parser)
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
        "--compare-roles",
        action="store_true",
        help="no roles, fixed roles, and roles as a bias, side by side",
    )
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
    parser.add_argument("--svg", metavar="FILE", help="write the chart of the slots as a drawing")
    parser.add_argument("--records", metavar="FILE", help="write every request's record")


def run(arguments: argparse.Namespace) -> int:
    price_from(arguments)  # what it raises is said before anything is simulated
    if arguments.replay is not None:
        return run_replay(arguments)
    objectives = objectives_from(arguments)
    profile = profile_from(arguments)
    setup = setup_from(arguments, profile)
    workload = workload_from(arguments)
    if not workload.requests:
        raise InvalidRequest("the workload has no requests", field="--num-prompts")
    began = time.perf_counter()
    if arguments.find is not None:
        return _run_search(arguments, setup, workload, objectives)
    setups = with_every_policy(arguments, setup) if arguments.compare_policies else [setup]
    if arguments.compare_roles:
        setups = with_every_use_of_roles(setup)
    runs = [_simulated(arguments, each, workload, objectives) for each in setups]
    took = time.perf_counter() - began
    show_report(arguments, runs, profile, setup.replicas)
    simulated = sum(run.summary["duration"] for run in runs)
    print(
        f"{len(runs) * len(workload.requests):,} requests over {simulated:,.0f} s simulated in "
        f"{took:.1f} s: {simulated / took:,.0f} times as fast",
        file=sys.stderr,
    )
    return 0


def _run_search(
    arguments: argparse.Namespace,
    setup: Setup,
    workload: Workload,
    objectives: tuple[Objective, ...],
) -> int:
    """Exit status 1 where nothing holds the objectives; then what is nearest is shown."""
    price, rate = price_from(arguments), rate_of(workload)
    found = _search(arguments, setup, workload, objectives)
    shown = found.best or max(found.tried, key=lambda candidate: candidate.rank)
    workload = at_rate(workload, shown.rate_scale)
    run = _simulated(arguments, shown.setup, workload, objectives)
    show_report(
        arguments,
        [run],
        shown.setup.profile,
        shown.setup.replicas,
        answer=found_text(found, arguments.find, rate),
        trials=trials_of(found, rate, price),
    )
    settings = ", ".join(f"{name} {value}" for name, value in run.settings.items())
    print(f"\n{'Nearest' if found.best is None else 'Found'}: {settings}")
    return 1 if found.best is None else 0


def _simulated(
    arguments: argparse.Namespace,
    setup: Setup,
    workload: Workload,
    objectives: tuple[Objective, ...],
) -> Run:
    wanted = arguments.json or arguments.html or arguments.svg
    drawn = wanted and len(workload.requests) <= MOST_BARS
    outcome = simulate(
        workload,
        setup,
        seed=arguments.seed,
        residuals=not arguments.no_residuals,
        keep_bars=bool(drawn),
        objectives=objectives,
    )
    system = setup.scheduler.policy.name
    if setup.replicas > 1:
        system += f", {setup.replicas} replicas"
    if setup.roles:
        fixed = "fixed " if setup.fixed_roles else ""
        system += f", {fixed}roles {roles_text(setup.roles)}"
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
    if setup.roles:
        raise InvalidRequest(
            "--find replicas tries fleets of any size, and --roles are those of one: leave it out",
            field="--roles",
        )
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


def run_replay(arguments: argparse.Namespace) -> int:
    """Replay every engine of the recording; exit status 1 where a step was planned otherwise."""
    _check_replay(arguments)
    replays: list[Replayed] = []
    pairs: list[tuple[Run, Run]] = []
    profile = None
    for number, recording in enumerate(read_recordings(arguments.replay), 1):
        outcome = replay(recording)
        replays.append(outcome)
        print(f"engine {number}: {outcome.steps:,} of {outcome.recorded:,} steps planned alike")
        if outcome.difference is not None:
            print(f"  first difference: {outcome.difference}")
        profile = _profile_of(arguments, recording)
        if profile is not None and recorded_workload(recording).requests:
            group = f"engine {number}, {recording.engine.scheduler.policy.name}"
            known, predicted = _side_by_side(arguments, recording, profile)
            pairs.append((replace(known, group=group), replace(predicted, group=group)))
    if profile is not None and pairs:
        print()
        runs = [run for pair in pairs for run in pair]
        answer = replayed_text(replays, pairs)
        show_report(arguments, runs, profile, 1, answer=answer, prediction=True)
    return 0 if all(each.identical for each in replays) else 1


def _check_replay(arguments: argparse.Namespace) -> None:
    """A recording has its own workload and engine: flags for these would have no effect."""
    parser = argparse.ArgumentParser()
    add_workload_flags(parser)
    names = [*vars(parser.parse_args([])), *engine_flag_names(), *FLEET_FLAGS]
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
) -> tuple[Run, Run]:
    """The recorded run, and what the simulator makes of it, with the same ids of requests."""
    workload = recorded_workload(recording)
    objectives = objectives_from(arguments)
    records, duration, gaps = measured(recording)
    slots, bars = bars_of(recording, recorded_start(recording))
    known = Run(
        system="measured",
        group=workload.name,
        settings={"policy": recording.engine.scheduler.policy.name},
        summary=summarize(records, duration=duration, objectives=objectives, gaps=gaps),
        records=records,
        slots=slots,
        bars=bars,
        idle_share=idle_share(bars, slots),
        percent_of_limit=percent_of_limit(recording),
    )
    predicted = predict(
        recording,
        profile,
        seed=arguments.seed,
        residuals=not arguments.no_residuals,
        acceptance=acceptance_from(arguments),
    )
    run = run_of(
        predicted,
        workload=workload,
        setup=recorded_setup(recording, profile),
        system="predicted",
        objectives=objectives,
    )
    return known, with_recorded_ids(run, recording)
