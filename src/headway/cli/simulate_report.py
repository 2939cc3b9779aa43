"""What `headway simulate` shows and writes: tables, a JSON report, an HTML page, records."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import replace

from headway import __version__
from headway.cli.price_flags import price_from
from headway.perf.records.record import write_records
from headway.perf.report.figures import tables
from headway.perf.report.headline import first_words
from headway.perf.report.overload import overloads
from headway.perf.report.page import write_page
from headway.perf.report.run import Report, Run, build_report, write_report
from headway.perf.report.svg import write_slots
from headway.perf.report.trial import Trial
from headway.steptime.passes import pass_curve
from headway.steptime.profiles import Profile


def show_report(
    arguments: argparse.Namespace,
    runs: list[Run],
    profile: Profile,
    replicas: int,
    *,
    answer: str = "",
    prediction: bool = False,
    trials: tuple[Trial, ...] = (),
) -> None:
    """Make the report of these runs, print it, and write the files that were asked for.

    See `headway.perf.report.run.Report` for `answer`, `prediction` and `trials`.
    """
    price = price_from(arguments)
    passes = pass_curve(f"{profile.model} on {profile.machine.device}", profile.step_times())
    report = build_report(
        title=f"{profile.model} on {replicas} x {profile.machine.device}, simulated"
        if replicas > 1
        else f"{profile.model} on {profile.machine.device}, simulated",
        runs=runs,
        about=dict(_about(profile)),
        price=None if price is None else replace(price, per_hour=price.per_hour * replicas),
        notes=(*_notes(profile, arguments.acceptance), passes.text, *overloads(runs)),
        answer=answer,
        prediction=prediction,
        trials=trials,
    )
    report = replace(report, passes=(passes,))
    print(first_words(report) + tables(report), end="")
    _write_files(arguments, report, runs)


def _about(profile: Profile) -> Iterator[tuple[str, str]]:
    found = profile.hardware
    yield "Simulated machine", profile.machine.device
    yield "Model", f"{profile.model}, {found.dtype}, KV cache {found.kv_cache_dtype}"
    yield "Headway", __version__


def _notes(profile: Profile, acceptance: float | None) -> Iterator[str]:
    yield "Simulated: the shipped scheduler and policies, on steps whose times come from a model."
    if acceptance is not None:
        yield f"Each token computed ahead is right with probability {acceptance:g}: as it was said."
    if profile.fit is None:
        yield "The machine was not measured: published rates, and shares of them that are assumed."
    else:
        yield (
            f"The model was fitted to {profile.fit.steps:,} measured steps, with a mean error of "
            f"{100 * profile.fit.mean:.1f} %."
        )


def _write_files(arguments: argparse.Namespace, report: Report, runs: list[Run]) -> None:
    """Write what --json, --html, --svg and --records ask for."""
    if arguments.json:
        write_report(arguments.json, report)
    if arguments.html:
        write_page(arguments.html, report)
    if arguments.svg:
        write_slots(arguments.svg, report)
    if arguments.records:
        write_records(arguments.records, [record for each in runs for record in each.records])
