"""Records made by hand, with numbers that can be checked by eye."""

from __future__ import annotations

from headway.perf.records.record import RequestRecord


def answered(
    *,
    id_: str = "a",
    sent: float = 0.0,
    due: float | None = None,
    ttft: float = 0.5,
    gaps: tuple[float, ...] = (0.1, 0.1, 0.1, 0.1),
    prompt: int = 10,
) -> RequestRecord:
    """A whole answer of one token a piece."""
    return RequestRecord(
        id=id_,
        due=sent if due is None else due,
        sent=sent,
        prompt_tokens=prompt,
        output_tokens=1 + len(gaps),
        ttft=ttft,
        latency=ttft + sum(gaps),
        largest_gap=max(gaps, default=0.0),
        itls=gaps,
    )


def refused(*, sent: float = 0.0) -> RequestRecord:
    return RequestRecord(
        id="r", due=sent, sent=sent, prompt_tokens=10, outcome="refused", error="429"
    )


def broken(*, sent: float = 0.0) -> RequestRecord:
    """An answer that was cut off after three tokens."""
    return RequestRecord(
        id="b",
        due=sent,
        sent=sent,
        prompt_tokens=10,
        output_tokens=3,
        ttft=0.1,
        latency=3.1,
        largest_gap=2.0,
        itls=(1.0, 2.0),
        outcome="error",
        error="the connection was closed",
    )
