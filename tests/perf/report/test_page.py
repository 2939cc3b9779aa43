"""The page's markup: complete, escaped, alone, and small."""

from __future__ import annotations

import json
import re
from base64 import b64encode
from dataclasses import replace
from hashlib import sha256
from html.parser import HTMLParser
from pathlib import Path

import pytest

from headway.errors import InvalidRequest
from headway.perf.report.page import render, write_page
from headway.perf.report.run import Bar, Report, Run, build_report
from headway.perf.report.trial import Trial
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
    (script,) = re.findall(r"<script>(.*?)</script>", text, re.DOTALL)
    facts = re.findall(r'<script type="application/json" class="facts">(.*?)</script>', text)
    assert (parser.tags.count("script"), len(facts)) == (7, 6)
    assert all(json.loads(each)["lanes"] for each in facts)
    digest = b64encode(sha256(script.encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'; style-src" in text, "no other script may run"
    assert not any(value.startswith("javascript:") for value in parser.values)
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
    assert parser.tags.count("script") == 2, "its facts and our own"
    (facts,) = re.findall(r'class="facts">(.*?)</script>', text, re.DOTALL)
    assert json.loads(facts)["requests"] == [nasty]
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
    assert "<script" not in text, "nothing is there to follow"
    assert "script-src" not in text


def test_a_price_of_nothing_is_still_a_price() -> None:
    text = render(Report(title="t", about={}, runs=(), price_per_hour=0.0))
    assert "Price per hour" in text
    assert "<dd>0 USD</dd>" in text


def test_a_price_has_no_digits_of_rounding() -> None:
    text = render(Report(title="t", about={}, runs=(), price_per_hour=3 * 0.8, currency="EUR"))
    assert "<dd>2.4 EUR</dd>" in text


def test_a_prediction_has_errors_and_nobody_leads() -> None:
    runs = (_timed("measured", 100.0, 2000.0), _timed("predicted", 98.0, 980.0))
    answer = "286 of 286 steps planned alike; latency p50 predicted 51 % too low"
    text = render(Report(title="t", about={}, runs=runs, answer=answer, prediction=True))
    assert f"<h1>{answer}</h1>" in text
    assert ">51 % too low</b>" in text
    assert ">2.0 % too low</em>" in text
    assert "2.00 s measured, 980 ms predicted" in text
    assert "×" not in text, "a prediction is no race"  # noqa: RUF001 - a multiplication sign
    assert "to every system" not in text


def test_a_search_answers_first_and_shows_what_it_tried() -> None:
    trials = [
        Trial(
            replicas=replicas,
            max_num_seqs=8,
            max_num_batched_tokens=64,
            attainment=attainment,
            attains=replicas > 3,
            measured={"ttft_p99=1s": 5.96 / replicas},
            cost_per_million=0.5 * replicas,
            currency="EUR",
        )
        for replicas, attainment in ((1, 0.1), (2, 0.5), (4, 1.0), (3, 0.9))
    ]
    runs = [_timed("paced, 4 replicas", 10.0, 240.0)]
    answer = "4 replicas hold ttft_p99=1s (240 ms), 3 do not (1.49 s)"
    text = render(build_report(title="t", runs=runs, answer=answer, trials=trials))
    assert f"<h1>{answer}</h1>" in text
    assert ">Attained over replicas</h3>" in text
    assert ">Attained over cost</h3>" in text
    assert text.index("What was tried") < text.index("All that was tried") < text.index("All fig")
    assert ">1.50 EUR</td>" in text


def test_rounds_that_overlap_are_too_close_to_call() -> None:
    runs = (
        replace(_timed("static", 100.0, 900.0), ranges={"output_throughput": (95.0, 106.0)}),
        replace(_timed("dynamic", 105.0, 900.0), ranges={"output_throughput": (99.0, 110.0)}),
    )
    text = render(Report(title="t", about={}, runs=runs))
    assert "too close to call" in re.sub("<[^>]*>", "", text.split("<h1>")[1].split("</h1>")[0])
    assert "99.0 to 110 tokens/s" in text


def test_what_clients_saw_is_not_called_slots() -> None:
    run = replace(_timed("served", 9.0, 500.0), bars=(Bar(0, 0.0, 0.25, 0.5, "a"),))
    text = render(Report(title="t", about={}, runs=(run,)))
    assert "Requests in flight</h2>" in text
    assert "Slots of the batch" not in text
    assert "at most 1 in flight" in text


def _timed(system: str, throughput: float, latency: float) -> Run:
    summary = {"output_throughput": throughput, "p50_e2el_ms": latency}
    return Run(system=system, group="g", summary=summary)


def test_slots_and_requests_in_flight_are_told_apart_in_one_chart() -> None:
    bars = (Bar(0, 0.0, 0.5, 1.0, "r"),)
    slots, seen = (
        Run(system=name, group="g", bars=bars, slots=count, summary={"output_throughput": 5.0})
        for name, count in (("one engine", 1), ("two engines", None))
    )
    text = render(Report(title="t", about={}, runs=(slots, seen)))
    assert "Slots of the batch" in text
    assert "in flight”, rows are no slots" in text
    for alone in (slots, seen):
        text = render(Report(title="t", about={}, runs=(alone,)))
        assert "rows are no slots" not in text


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
