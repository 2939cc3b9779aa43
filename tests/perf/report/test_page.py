"""The page's markup: complete, escaped, alone, and small."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from headway.errors import InvalidRequest
from headway.perf.report.page import render, write_page
from headway.perf.report.run import Bar, Report, Run
from tests.perf.report.fabricated import report

_VOID = {"meta", "br", "hr", "img", "input", "link"}


class _Balance(HTMLParser):
    """Keeps the open tags, and every attribute's value."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.values: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.values += [value or "" for _, value in attrs]
        if tag not in _VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def _parsed(text: str) -> _Balance:
    parser = _Balance()
    parser.feed(text)
    parser.close()
    assert parser.open == []
    return parser


def test_the_page_is_whole_and_needs_nothing_else() -> None:
    text = render(report())
    parser = _parsed(text)
    assert "script" not in parser.tags
    assert not {"img", "link", "iframe", "object"} & set(parser.tags)
    assert not re.search(r"https?://|url\(|@import", text)
    assert "default-src 'none'" in text


def test_every_section_is_there() -> None:
    text = render(report())
    for title in (
        "Slots of the batch",
        "Results",
        "Idle slots",
        "Percent of the machine&#39;s limit",
        "Cost of a million output tokens",
        "Throughput by variation of lengths",
        "What the variation of lengths does",
        "How long an answer takes",
        "TTFT p99 over load",
        "ITL p50 over load",
        "Throughput against latency",
        "All figures",
        "How it was measured",
    ):
        assert f">{title}</h" in text, title
    assert text.count("<table>") == 6
    assert text.count("<details>") == 5


def test_drawings_have_words_for_those_who_cannot_see_them() -> None:
    text = render(report())
    drawings = re.findall(r'role="img" aria-label="([^"]*)"', text)
    assert len(drawings) > 40
    assert all(len(label) > 20 for label in drawings)


def test_what_comes_from_outside_is_escaped() -> None:
    nasty = "<script>alert('x')</script>\"onload=\"& {{ 7 * 7 }}"
    run = Run(
        system=nasty,
        group=nasty,
        settings={nasty: nasty},
        summary={"output_throughput": 5.0, "p50_e2el_ms": 3.0},
        bars=(Bar(0, 0.0, 0.5, 1.0, nasty),),
    )
    text = render(Report(title=nasty, about={nasty: nasty}, runs=(run,), notes=(nasty,)))
    parser = _parsed(text)
    assert "script" not in parser.tags
    assert "{{ 7 * 7 }}" in text
    assert not any(value == "& " for value in parser.values)


@pytest.mark.parametrize(
    "runs",
    [
        (),
        (Run(system="x", group="g"),),
        (Run(system="x", group="g", summary={"output_throughput": 0.0}),),
        (Run(system="x", group="g", rate=1.0, length_cv=0.0, bars=(Bar(0, 0.0, 0.0, 0.0, "r"),)),),
    ],
)
def test_a_report_of_next_to_nothing_is_a_page(runs: tuple[Run, ...]) -> None:
    text = render(Report(title="Nothing much", about={}, runs=runs))
    _parsed(text)
    assert "Nothing much" in text


def test_a_price_of_nothing_is_still_a_price() -> None:
    text = render(Report(title="t", about={}, runs=(), price_per_hour=0.0))
    assert "Price per hour" in text


def test_a_long_run_is_still_a_small_page() -> None:
    bars = tuple(
        Bar(slot, 0.1 * place, 0.1 * place + 0.02, 0.1 * place + 0.09, f"{slot}-{place}")
        for slot in range(64)
        for place in range(400)
    )
    runs = tuple(
        Run(system=f"system {number}", group=f"group {number % 4}", bars=bars, slots=64)
        for number in range(24)
    )
    assert len(render(Report(title="Long", about={}, runs=runs)).encode()) < 2_000_000


def test_the_same_report_is_the_same_page() -> None:
    assert render(report()) == render(report())


def test_writing(tmp_path: Path) -> None:
    write_page(tmp_path / "page.html", report())
    assert (tmp_path / "page.html").read_text(encoding="utf-8") == render(report())
    with pytest.raises(InvalidRequest, match="cannot write"):
        write_page(tmp_path / "no" / "page.html", report())
