"""What `headway top` says of a server, from two readings of its metrics: lines of words and shares.

The words alone; `headway.cli.top` puts them on a terminal or into lines.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from headway.cli.scrape import Span
from headway.perf.report.figures import shown, three


@dataclass(frozen=True, slots=True, kw_only=True)
class TopLine:
    """One line: what it is about, what it says, and a share (0 to 1) where a bar can show it."""

    label: str
    text: str
    share: float | None = None


def top_lines(span: Span) -> list[TopLine]:
    """All that is known, a line for each question."""
    lines = (
        TopLine(label="requests", text=_some(_requests(span))),
        TopLine(label="tokens", text=_some(_tokens(span))),
        TopLine(label="batch", text=_some(_batch(span))),
        TopLine(label="latency", text=_some(_latency(span))),
        TopLine(label="objectives", text=_some(_objectives(span))),
        TopLine(label="engines", text=_some(_engines(span))),
        _bar(span, "KV memory", "vllm:kv_cache_usage_perc", 1.0, "used"),
        _bar(span, "machine", "headway:percent_of_limit", 100.0, "of limit"),
        TopLine(label="saved", text=_some(_saved(span))),
    )
    return [line for line in lines if line.text]


def top_summary(span: Span) -> str:
    """The same in one short line."""
    after = span.after
    kv = after.worst("vllm:kv_cache_usage_perc")
    first = span.quantile("vllm:time_to_first_token_seconds", 0.99)
    return _some(
        (
            _count(after.total("vllm:num_requests_running"), "running"),
            _count(after.total("vllm:num_requests_waiting"), "waiting"),
            _rate(span.rate("vllm:generation_tokens_total"), "tokens/s"),
            "" if first is None else f"TTFT p99 {shown(first, 's')}",
            "" if kv is None else f"KV memory {shown(kv, 'share')}",
        )
    )


def _requests(span: Span) -> Iterator[str]:
    after, reasons = span.after, "vllm:num_requests_waiting_by_reason"
    yield _count(after.total("vllm:num_requests_running"), "running")
    yield _count(after.total(reasons, reason="capacity"), "waiting for room")
    if held_back := after.total(reasons, reason="deferred"):
        yield _count(held_back, "held back by the policy")
    yield _rate(span.rate("vllm:request_success_total"), "ended/s")
    if refused := span.rate("vllm:admission_rejections_total"):
        yield _rate(refused, "refused/s")
    if failed := span.rate("vllm:request_success_total", finished_reason="error"):
        yield _rate(failed, "failed/s")


def _tokens(span: Span) -> Iterator[str]:
    yield _rate(span.rate("vllm:generation_tokens_total"), "written/s")
    yield _rate(span.rate("vllm:prompt_tokens_total"), "of prompts/s")


def _batch(span: Span) -> Iterator[str]:
    after = span.after
    width, budget = after.total("headway:step_width"), after.total("headway:step_token_budget")
    tokens, seconds = span.mean("headway:step_tokens"), span.mean("headway:step_seconds")
    predicted = after.worst("headway:predicted_step_seconds")
    yield _count(width, "sequence in a step" if width == 1 else "sequences in a step")
    if tokens is not None:
        bound = "" if budget is None else f" of at most {budget:,.0f}"
        yield f"{three(tokens)} new tokens{bound}"
    if seconds is not None:
        told = "" if predicted is None else f" (predicted {shown(predicted, 's')})"
        yield f"{shown(seconds, 's')} a step{told}"
    factors = [name for name, limits in after.by("headway:limiting_factor", "factor") if limits]
    if factors:
        yield f"limited by {' and '.join(factors)}"


def _latency(span: Span) -> Iterator[str]:
    for label, name in (
        ("TTFT", "vllm:time_to_first_token_seconds"),
        ("TPOT", "vllm:request_time_per_output_token_seconds"),
    ):
        middle, late = span.quantile(name, 0.5), span.quantile(name, 0.99)
        if middle is not None and late is not None:
            yield f"{label} {shown(middle, 's')}, p99 {shown(late, 's')}"


def _objectives(span: Span) -> Iterator[str]:
    for name, kept in span.after.by("headway:slo_attainment_ratio", "class"):
        yield f"{shown(kept, 'share')} of {name} on time"


def _engines(span: Span) -> Iterator[str]:
    """Where there are several: how many are what, and how many requests each has."""
    for state, engines in span.after.by("headway:replica_state", "state"):
        if engines:
            yield _count(engines, state)
    has = dict(span.after.by("headway:replica_live_requests", "replica"))
    if has:
        yield f"requests {' + '.join(f'{requests:,.0f}' for requests in has.values())}"


def _saved(span: Span) -> Iterator[str]:
    for said, part, whole in (
        ("of prompts cached", "vllm:prefix_cache_hits_total", "vllm:prefix_cache_queries_total"),
        (
            "of answers from memory",
            "headway:response_cache_hits_total",
            "headway:response_cache_queries_total",
        ),
        (
            "of drafts right",
            "vllm:spec_decode_num_accepted_tokens_total",
            "vllm:spec_decode_num_draft_tokens_total",
        ),
    ):
        share = span.share(part, whole)
        if share is not None:
            yield f"{shown(share, 'share')} {said}"


def _bar(span: Span, label: str, name: str, whole: float, said: str) -> TopLine:
    value = span.after.worst(name)
    if value is None:
        return TopLine(label=label, text="")
    share = min(1.0, max(0.0, value / whole))
    return TopLine(label=label, text=f"{shown(share, 'share')} {said}", share=share)


def _count(value: float | None, said: str) -> str:
    return "" if value is None else f"{value:,.0f} {said}"


def _rate(value: float | None, said: str) -> str:
    return "" if value is None else f"{three(value)} {said}"


def _some(parts: Iterator[str] | Sequence[str]) -> str:
    return ", ".join(part for part in parts if part)
