"""The slot chart as a file: every slot and bar is in it, and it needs nothing else."""

from __future__ import annotations

import re
from pathlib import Path
from xml.etree import ElementTree

import pytest

from headway.errors import InvalidRequest
from headway.perf.report.plot import POLICY_TONES
from headway.perf.report.run import Bar, Report, Run, build_report
from headway.perf.report.svg import slots_svg, write_slots
from tests.perf.report.fabricated import report

SVG = "{http://www.w3.org/2000/svg}"
BARS = (Bar(0, 0.0, 1.0, 4.0, "a"), Bar(1, 0.0, 0.5, 8.0, "b"))


def of(*runs: Run, title: str = "Slots & <time>") -> Report:
    return build_report(title=title, runs=runs)


def a_run(system: str, bars: tuple[Bar, ...] = BARS, slots: int = 3) -> Run:
    return Run(system=system, group="g", bars=bars, slots=slots, idle_share=0.5)


def drawn(given: Report) -> tuple[str, ElementTree.Element]:
    text = slots_svg(given)
    assert text is not None
    return text, ElementTree.fromstring(text)


def test_it_says_what_it_shows_and_quotes_what_is_given() -> None:
    text, svg = drawn(of(a_run("static"), a_run("a < b")))
    assert svg.findtext(f"{SVG}title") == "Slots & <time>"
    said = svg.findtext(f"{SVG}desc") or ""
    assert "static: 3 slots, 50 % idle, 2 bars in 8.00 s." in said
    assert "a < b: 3 slots" in said
    assert "a &lt; b" in text


def test_a_lane_for_each_system_as_wide_as_it_took_and_idle_beneath() -> None:
    slow = tuple(Bar(bar.slot, 2 * bar.begin, 2 * bar.first, 2 * bar.end, "x") for bar in BARS)
    _, svg = drawn(of(a_run("static"), a_run("sequential", slow)))
    idle = [each for each in svg.iter(f"{SVG}rect") if each.get("fill") == "url(#idle)"]
    _, *lanes = idle  # the first is the legend's
    short, long = (float(each.get("width", "")) for each in lanes)
    assert long == pytest.approx(2 * short, abs=0.2)
    tops = [float(each.get("y", "")) for each in lanes]
    heights = [float(each.get("height", "")) for each in lanes]
    assert tops[1] > tops[0] + heights[0]
    assert tops[1] + heights[1] < float(svg.get("viewBox", "").split()[3])


def test_bars_lie_in_their_slots_and_inside_their_lane() -> None:
    _, svg = drawn(of(a_run("static")))
    (group,) = svg.iter(f"{SVG}g")
    across, down = map(
        float, re.findall(r"scale\(([\d.]+) ([\d.]+)\)", group.get("transform", ""))[0]
    )
    decode, prefill = (path.get("d", "") for path in group)
    for path, most in ((decode, 2), (prefill, 2)):
        found = re.findall(r"M(\d+) (\d+)h(\d+)v(\d+)", path)
        assert len(found) == most
        for left, top, width, height in (map(int, each) for each in found):
            assert (left + width) * across <= 720 - 2 * 12
            assert (top + height) * down <= 3 * 14


def test_policies_keep_their_colours_on_light_and_dark() -> None:
    text, _ = drawn(of(a_run("static"), a_run("paced")))
    for policy in ("static", "paced"):
        assert f'class="d{POLICY_TONES[policy]}"' in text
    assert text.count(f".d{POLICY_TONES['static']}{{") == 2
    assert f".d{POLICY_TONES['dynamic']}{{" not in text


def test_the_colours_are_the_pages() -> None:
    css = (Path(__file__).parents[3] / "src/headway/perf/report/page.css").read_text()
    text, _ = drawn(of(*(a_run(policy) for policy in POLICY_TONES)))
    used = set(re.findall(r"\.d(\d)\{fill:(#\w+)\}", text))
    assert used == {each for each in re.findall(r"--t(\d): (#\w+)", css) if int(each[0]) < 5}


def test_a_long_run_stays_small_and_nothing_is_asked_of_a_network() -> None:
    text, svg = drawn(report(requests=400))
    assert len(text) < 120_000
    assert text == slots_svg(report(requests=400))
    assert set(re.findall(r"https?://[^\"'<) ]+", text)) == {"http://www.w3.org/2000/svg"}
    assert not [each for each in svg.iter() if each.tag.endswith(("script", "image", "use"))]


def test_that_not_all_slots_are_drawn_is_said() -> None:
    assert "slots drawn" not in drawn(of(a_run("static", slots=48)))[0]
    text, _ = drawn(of(a_run("static", slots=100)))
    assert "100 slots" in text
    assert ", 34 slots drawn" in text


def test_without_bars_there_is_no_drawing(tmp_path: Path) -> None:
    assert slots_svg(of()) is None
    assert slots_svg(of(a_run("static", bars=()))) is None
    with pytest.raises(InvalidRequest, match="--svg"):
        write_slots(tmp_path / "x.svg", of(a_run("static", bars=())))
    assert not (tmp_path / "x.svg").exists()
