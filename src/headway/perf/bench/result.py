"""The result of a load as text for the terminal and as JSON for a file.

Both have the layout and the names of vLLM's benchmark, so that people and tools find what they look
for; figures of ours stand beside them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from headway.perf.bench.run_load import LoadResult
from headway.perf.records.summary import PERCENTILES, objectives_met, summarize
from headway.perf.report.overload import overload_warning
from headway.perf.report.price import CURRENCY
from headway.types.objectives import Objective

WIDTH = 56
METRICS = {
    "ttft": ("TTFT", "Time to first token"),
    "tpot": ("TPOT", "Time per output token after the first"),
    "itl": ("ITL", "Inter-token latency"),
    "e2el": ("E2EL", "End-to-end latency"),
}
_VOLUME = (
    ("completed", "Successful requests:", "d"),
    ("failed", "Failed requests:", "d"),
    ("duration", "Benchmark duration (s):", ".2f"),
    ("total_input_tokens", "Total input tokens:", "d"),
    ("cached_input_tokens", "  of which from a prefix cache:", "d"),
    ("total_output_tokens", "Total generated tokens:", "d"),
    ("spec_decode_draft_tokens", "Draft tokens:", "d"),
    ("spec_decode_accepted_tokens", "  of which accepted:", "d"),
    ("tokens_per_step", "Tokens an answer got of a step:", ".2f"),
    ("request_throughput", "Request throughput (req/s):", ".2f"),
    ("request_goodput", "Request goodput (req/s):", ".2f"),
    ("output_throughput", "Output token throughput (tok/s):", ".2f"),
    ("on_time_output_throughput", "  of requests on time (tok/s):", ".2f"),
    ("total_token_throughput", "Total token throughput (tok/s):", ".2f"),
    ("max_concurrent_requests", "Peak concurrent requests:", "d"),
    ("largest_gap_ms", "Largest gap in an answer (ms):", ".2f"),
    ("shed_share", "Share of requests refused:", ".2%"),
    ("attainment", "Attainment over offered requests:", ".2%"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ResultOptions:
    """The figures that are shown and written."""

    objectives: tuple[Objective, ...] = ()
    metrics: tuple[str, ...] = ("ttft", "tpot", "itl")
    """Latencies that the terminal shows, of `METRICS`."""
    percentiles: tuple[float, ...] = (99.0,)
    currency: str = CURRENCY
    """Of the figure "cost_per_million", where there is one."""


def figures(result: LoadResult, options: ResultOptions) -> dict[str, float]:
    """All figures of a run; see `headway.perf.records.summary.summarize`."""
    chosen = sorted({*PERCENTILES, *options.percentiles})
    found = summarize(
        result.records,
        duration=result.duration,
        objectives=options.objectives,
        percentiles=chosen,
    )
    whole = [record for record in result.records if record.outcome == "ok"]
    found["cached_input_tokens"] = sum(record.cached_tokens for record in whole)
    found["client_wake_p99_ms"] = result.client_delay.wake_p99 * 1e3
    found["client_wake_max_ms"] = result.client_delay.wake_max * 1e3
    found["client_busy_share"] = result.client_delay.busy
    return found


def table(
    title: str, result: LoadResult, found: Mapping[str, float], options: ResultOptions
) -> str:
    """The summary for the terminal."""
    lines = [f" {title} ".center(WIDTH, "=")]
    for name, label, spec in _VOLUME:
        if name in found and (found[name] or name not in ("cached_input_tokens", "shed_share")):
            value = round(found[name]) if spec == "d" else found[name]
            lines.append(_row(label, format(value, spec)))
    lines += _parts(found)
    if "cost_per_million" in found:
        cost = f"{found['cost_per_million']:.4g} {options.currency}"
        lines.append(_row("Cost of a million generated tokens:", cost))
    for metric in options.metrics:
        lines += _latency(metric, found, options.percentiles)
    lines += _objectives(result, options)
    lines.append(" Client ".center(WIDTH, "-"))
    client_delay = result.client_delay
    lines.append(_row("P99 delay of sending (ms):", f"{client_delay.late_p99 * 1e3:.2f}"))
    lines.append(_row("P99 delay of the event loop (ms):", f"{client_delay.wake_p99 * 1e3:.2f}"))
    lines.append(_row("Share of a core used:", f"{client_delay.busy:.1%}"))
    lines.append("=" * WIDTH)
    return "\n".join(lines)


def problems(result: LoadResult, other_lengths: int = 0) -> list[str]:
    """What went wrong, a line each: errors by how often they came, then warnings."""
    lines = grouped_errors(record.error for record in result.records if record.outcome != "ok")
    if other_lengths:
        lines.append(f"{other_lengths} answers were not as long as asked")
    overload = overload_warning(result.records)
    warnings = (result.client_delay.warning, overload)
    return lines + [f"warning: {warning}" for warning in warnings if warning is not None]


def grouped_errors(errors: Iterable[str], most: int = 10) -> list[str]:
    """Errors by how often they came, the most frequent first, at most so many kinds."""
    counted = Counter(errors)
    lines = [f"{count} x {error}" for error, count in counted.most_common(most)]
    left = len(counted) - most
    return [*lines, f"and {left} other errors"] if left > 0 else lines


def document(
    result: LoadResult,
    found: Mapping[str, float],
    options: ResultOptions,
    *,
    about: Mapping[str, Any],
) -> dict[str, Any]:
    """The JSON of a result: `about` first, then all figures, then the objectives' results."""
    content: dict[str, Any] = {**about, "num_prompts": len(result.records)}
    whole = ("completed", "failed", "max_concurrent_requests")
    counts = {name for name in found if name in whole or name.endswith("_tokens")}
    content |= {name: round(v) if name in counts else v for name, v in found.items()}
    if options.objectives:
        content["objectives"] = {
            str(met.objective): {
                "met": met.met,
                "value_ms": None if met.value is None else met.value * 1e3,
            }
            for met in objectives_met(result.records, options.objectives)
        }
    content["client_warning"] = result.client_delay.warning
    content["overload_warning"] = overload_warning(result.records)
    return content


def details(result: LoadResult) -> dict[str, Any]:
    """Each request's own figures, as lists in the order of the requests."""
    records = result.records
    return {
        "input_lens": [record.prompt_tokens for record in records],
        "output_lens": [record.output_tokens for record in records],
        "ttfts": [record.ttft or 0.0 for record in records],
        "itls": [list(record.itls) for record in records],
        "e2els": [record.latency or 0.0 for record in records],
        "start_times": [record.sent for record in records],
        "errors": [record.error for record in records],
    }


def _parts(found: Mapping[str, float]) -> list[str]:
    """What each class, or tenant, attained, where there are several."""
    begin = "attainment_"
    return [
        _row(f"  of {name.removeprefix(begin).replace('_', ' ', 1)}:", f"{value:.2%}")
        for name, value in found.items()
        if name.startswith(begin)
    ]


def _latency(metric: str, found: Mapping[str, float], percentiles: Sequence[float]) -> list[str]:
    short, long = METRICS[metric]
    if f"mean_{metric}_ms" not in found:
        return []
    lines = [f" {long} ".center(WIDTH, "-")]
    for name in ("mean", "median"):
        value = found[f"{name}_{metric}_ms"]
        lines.append(_row(f"{name.capitalize()} {short} (ms):", f"{value:.2f}"))
    tails = {share: found[f"p{share:g}_{metric}_ms"] for share in percentiles}
    return lines + [_row(f"P{p:g} {short} (ms):", f"{value:.2f}") for p, value in tails.items()]


def _objectives(result: LoadResult, options: ResultOptions) -> list[str]:
    if not options.objectives:
        return []
    lines = [" Objectives ".center(WIDTH, "-")]
    for met in objectives_met(result.records, options.objectives):
        value = "-" if met.value is None else f"{met.value * 1e3:.1f} ms"
        lines.append(_row(f"{met.objective}:", f"{value}, {'met' if met.met else 'missed'}"))
    return lines


def _row(label: str, value: str) -> str:
    return f"{label:<38} {value:<16}".rstrip()
