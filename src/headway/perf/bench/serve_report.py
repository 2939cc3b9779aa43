"""The page of a load on a server: what its clients saw, as a report of one system."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

from headway import __version__
from headway.perf.bench.serve import ServeLoad, ServeResult
from headway.perf.report.price import HourlyPrice
from headway.perf.report.run import Report, Run, build_report
from headway.perf.report.slots import bars_of_records
from headway.perf.workload.synthetic import length_cv, rate_of


def serve_report(
    loaded: ServeResult,
    load: ServeLoad,
    figures: Mapping[str, float],
    *,
    price: HourlyPrice | None,
    notes: Sequence[str],
) -> Report:
    """The report; `figures` as `headway.perf.bench.result.figures` gives them."""
    workload, records = load.workload, loaded.load_result.records
    run = Run(
        system=loaded.model,
        group=workload.name,
        kind="external",
        length_cv=length_cv(workload),
        rate=rate_of(workload),
        summary=figures,
        records=records,
        bars=bars_of_records(records),
    )
    return build_report(
        title=f"{loaded.model} at {load.address.url}",
        runs=[run],
        about=_about(load, loaded),
        price=price,
        notes=notes,
    )


def _about(load: ServeLoad, loaded: ServeResult) -> dict[str, str]:
    bound = load.max_concurrency
    return {
        "Server": load.address.url,
        "Model": loaded.model,
        "Endpoint": load.endpoint,
        "Workload": load.workload.name,
        "Most in flight": "as many as there are" if bound is None else f"{bound:,}",
        "Measured": "by the client, from sending to the last token",
        "Headway": __version__,
        "Date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
    }
