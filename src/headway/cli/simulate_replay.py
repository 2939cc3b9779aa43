"""`headway simulate --replay STEPS`: a recording's steps planned anew, and its times predicted."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import replace

from headway.cli.simulate_report import show_report, write_files
from headway.cli.simulate_setup import engine_flag_names, profile_from
from headway.cli.workload_flags import add_workload_flags, objectives_from
from headway.errors import InvalidRequest
from headway.perf.records.summary import summarize
from headway.perf.report.run import Run
from headway.perf.report.slots import bars_of, idle_share, percent_of_limit
from headway.perf.sim.predict import measured, predict, recorded_setup, recorded_workload
from headway.perf.sim.replay import replay
from headway.perf.sim.simulate import run_of
from headway.recording.format import Recording
from headway.recording.reader import read_recordings
from headway.steptime.profiles import Profile, find_profile


def run_replay(arguments: argparse.Namespace) -> int:
    """Replay every engine of the recording; exit status 1 where a step was planned otherwise."""
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
        write_files(arguments, show_report(arguments, runs, profile, 1), runs)
    return 0 if same else 1


def _check_replay(arguments: argparse.Namespace) -> None:
    """A recording has its own workload and engine: flags for these would have no effect."""
    parser = argparse.ArgumentParser()
    add_workload_flags(parser)
    names = [*vars(parser.parse_args([])), *engine_flag_names(), "num_blocks", "replicas", "router"]
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
