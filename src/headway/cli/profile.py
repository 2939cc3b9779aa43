"""`headway profile [MODEL]`: how long steps take here, measured once and kept for the simulator.

Without anything else it starts an engine and probes it. `--from` takes the steps of a recording
instead, `--check` says how far a profile is off on another one, and `--list` shows what is kept.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

from headway.cli.flags import add_flags, collect
from headway.codec import make_folder, write_bytes
from headway.config import DEFAULT_MODEL, EngineConfig
from headway.errors import InvalidRequest
from headway.recording.fitting import CheckedErrors, errors_on, fit_recordings
from headway.recording.format import Recording, read_recordings
from headway.steptime.model import REGIMES
from headway.steptime.profiles import (
    Profile,
    find_profile,
    keep_profile,
    load_profile,
    profile_names,
    profiles_folder,
)
from headway.steptime.shape import NAMES, PRIOR

_LEFT_OUT = ("model", "policy", "policy_options", "record")


def configure(parser: argparse.ArgumentParser) -> None:
    parser.set_defaults(run=run)
    parser.add_argument("model", nargs="?", help=f"model to probe (default: {DEFAULT_MODEL})")
    parser.add_argument(
        "--from",
        dest="source",
        type=Path,
        metavar="STEPS",
        help="fit this recording of an engine (see --record) instead of probing one",
    )
    parser.add_argument(
        "--check",
        type=Path,
        metavar="STEPS",
        help="print how far the profile is off on this recording",
    )
    parser.add_argument(
        "--profile", metavar="NAME", help="with --check: the kept profile, or file, to check"
    )
    parser.add_argument("--list", action="store_true", help="list the profiles that are kept")
    parser.add_argument(
        "--seconds",
        type=float,
        help="how long to probe, about (default: the better part of a minute)",
    )
    parser.add_argument("--output", type=Path, metavar="FILE", help="write the profile here too")
    engine = parser.add_argument_group("engine to probe")
    add_flags(engine, EngineConfig, leave_out=_LEFT_OUT)


def run(arguments: argparse.Namespace) -> int:
    if arguments.list:
        for name in profile_names():
            print(name)
        return 0
    if arguments.profile and not arguments.check:
        raise InvalidRequest("--profile is what --check checks: give both", field="--profile")
    if arguments.check and not arguments.source and not arguments.model:
        _check_kept(arguments.check, arguments.profile)
        return 0
    if arguments.profile:
        raise InvalidRequest(
            "a profile that is made anew is checked itself: leave out --profile", field="--profile"
        )
    profile = _fitted(arguments)
    kept = keep_profile(profile)
    if arguments.output:
        write_bytes(arguments.output, profile.to_json().encode())
    for line in profile_lines(profile):
        print(line)
    print(f"kept as {kept.stem}")
    if arguments.check:
        _print_errors(profile, read_recordings(arguments.check))
    return 0


def profile_lines(profile: Profile) -> Iterator[str]:
    """A profile as lines of text: the machine, what each part costs, how well it fits."""
    machine, hardware = profile.machine, profile.hardware
    yield (
        f"{profile.model}, {hardware.dtype}, KV cache {hardware.kv_cache_dtype}, "
        f"{hardware.device}, {hardware.threads} threads"
    )
    yield (
        f"limits: {machine.flops_per_second / 1e9:,.0f} GFLOP/s, "
        f"{machine.bandwidth / 1e9:,.1f} GB/s"
    )
    yield "times as long as the limits allow (before any data):"
    for name, value in zip(NAMES, profile.coefficients, strict=True):
        yield f"  {name.replace('_', ' '):<18} {value:7.3f} ({getattr(PRIOR, name):g})"
    if profile.fit is not None:
        found = profile.fit
        yield (
            f"fitted to {found.steps} steps, off by {found.mean:.1%} in the mean, "
            f"{found.p95:.1%} at p95; {found.stalls} stalls"
        )
    for name in REGIMES:
        low, high = (profile.residuals.quantile(name, share) for share in (0.05, 0.95))
        yield f"  {name:<8} measured / predicted {low:.2f} to {high:.2f} (p5 to p95)"


def error_lines(errors: CheckedErrors) -> Iterator[str]:
    """Errors on a recording as a table."""
    yield f"{'steps':<10} {'number':>7} {'mean':>7} {'p95':>7}"
    for name, found in [("all", errors.all), *errors.regimes.items()]:
        yield f"{name:<10} {found.steps:>7} {found.mean:>7.1%} {found.p95:>7.1%}"
    yield f"total time predicted / measured: {errors.total:.3f}; {errors.stalls} stalls left out"


def _fitted(arguments: argparse.Namespace) -> Profile:
    if arguments.source:
        return fit_recordings(read_recordings(arguments.source))
    from headway.perf.bench.probe import SECONDS, probe

    seconds = SECONDS if arguments.seconds is None else arguments.seconds
    if not seconds > 0:
        raise InvalidRequest("--seconds must be more than 0", field="--seconds")
    config = collect(EngineConfig, arguments)
    make_folder(profiles_folder())  # so that nothing is measured that cannot be kept
    print(f"Probing {config.model} for about {seconds:.0f} s ...", flush=True)
    return asyncio.run(probe(config, seconds=seconds, on_workload=_watch))


def _check_kept(path: Path, name: str | None) -> None:
    recordings = read_recordings(path)
    engine = recordings[-1].engine
    if name:
        profile: Profile | None = load_profile(name)
    else:
        profile = find_profile(model=engine.model, **asdict(engine.hardware))
    if profile is None:
        raise InvalidRequest(
            f"no profile is kept for {engine.model} as {engine.hardware.dtype}: make one with "
            "`headway profile`, or name one with --profile",
            field="--check",
        )
    _print_errors(profile, recordings)


def _print_errors(profile: Profile, recordings: list[Recording]) -> None:
    for recording in recordings:
        for line in error_lines(errors_on(profile, recording)):
            print(line)


def _watch(name: str) -> None:
    if sys.stderr.isatty():
        print(f"\r\x1b[K{name}", end="", file=sys.stderr, flush=True)
