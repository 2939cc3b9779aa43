"""The chart of passes: a line for each machine, words, and the same as a table."""

from __future__ import annotations

import json
import re
from dataclasses import replace

from headway.perf.report.page import render
from headway.perf.report.pass_chart import MOST_LINES, pass_chart
from headway.perf.report.plot import SIZE
from headway.perf.report.run import Report, Run, dumps, loads
from headway.steptime.model import StepTimeModel
from headway.steptime.passes import PassCurve, pass_curve
from tests.perf.report.recordings import MACHINE, SIZES

CURVE = pass_curve("toy", StepTimeModel(SIZES, MACHINE))


def report(*curves: PassCurve) -> Report:
    run = Run(system="a", group="g", summary={"output_throughput": 1.0})
    return Report(title="Passes", about={}, runs=(run,), passes=curves)


def test_a_line_rises_from_one_token_to_the_most() -> None:
    chart = pass_chart([CURVE])
    assert chart is not None
    assert chart.plot.x.log
    (line,) = chart.plot.lines
    corners = [tuple(map(int, spot.split())) for spot in line.path[1:].split("L")]
    assert corners[0][0] == 0
    assert corners[0][1] == round(SIZE * (1 - CURVE.percent[0] / 100))
    assert corners[-1][1] == round(SIZE * (1 - CURVE.percent[-1] / 100))
    assert corners == sorted(corners, key=lambda corner: (corner[0], -corner[1]))
    assert CURVE.text in chart.plot.text


def test_the_table_begins_with_one_token_and_ends_with_the_most() -> None:
    other = replace(CURVE, name="other", percent=tuple(50.0 for _ in CURVE.percent))
    chart = pass_chart([CURVE, other])
    assert chart is not None
    assert chart.columns == ("tokens in a pass", "toy", "other")
    assert chart.rows[0][0] == "1"
    assert chart.rows[-1][0] == "8,192"
    assert chart.rows[-1][1] == f"{CURVE.percent[-1]:.0f} %"
    assert {row[2] for row in chart.rows} == {"50 %"}
    assert len(set(chart.tones.values())) == 2


def test_more_machines_than_can_be_told_apart_are_left_out() -> None:
    chart = pass_chart([replace(CURVE, name=str(number)) for number in range(MOST_LINES + 3)])
    assert chart is not None
    assert len(chart.plot.lines) == len(chart.said) == MOST_LINES
    assert len(set(chart.tones.values())) == MOST_LINES
    assert pass_chart([]) is None


def test_the_page_has_the_drawing_its_words_and_its_table() -> None:
    text = render(report(CURVE))
    assert text.count(">Tokens in a pass against percent of limit</h2>") == 1
    assert CURVE.text in re.findall(r'role="img" aria-label="([^"]*)"', text)[-1]
    assert f'<p class="small">{CURVE.text}</p>' in text
    table = text[text.index("The same as a table") :]
    assert '<th scope="row">8,192</th>' in table
    assert 'aria-label="Machines"' not in text, "one line needs no key"
    assert 'aria-label="Machines"' in render(report(CURVE, replace(CURVE, name="<other>")))
    assert "&lt;other&gt;" in render(report(CURVE, replace(CURVE, name="<other>")))
    assert "percent of limit" not in render(report())


def test_a_report_keeps_its_curves_and_old_ones_have_none() -> None:
    whole = report(CURVE)
    assert loads(dumps(whole)) == whole
    older = json.loads(dumps(whole))
    del older["passes"]
    assert loads(json.dumps(older)).passes == ()
