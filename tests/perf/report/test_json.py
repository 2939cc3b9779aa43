"""What is written comes back; what is damaged is an error that names the place."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headway.errors import InvalidRequest
from headway.perf.records.record import RequestRecord
from headway.perf.report.run import Bar, Report, Run, dumps, loads, read_report, write_report
from headway.perf.report.trial import Trial
from headway.types.objectives import parse_objectives
from tests.perf.report.fabricated import report

RECORD = RequestRecord(
    id="r1",
    due=0.0,
    sent=0.001,
    prompt_tokens=7,
    output_tokens=3,
    ttft=0.25,
    latency=0.75,
    largest_gap=0.3,
    itls=(0.25, 0.25),
    cached_tokens=4,
    draft_tokens=5,
    accepted_tokens=1,
)
RUN = Run(
    system="continuous",
    group="cap 8",
    kind="simulated",
    settings={"policy": "continuous", "max_num_seqs": 8},
    length_cv=0.5,
    rate=2.0,
    summary={"completed": 1, "output_throughput": 12.5},
    records=(RECORD, RequestRecord(id="r2", due=1.0, sent=1.0, prompt_tokens=1, outcome="refused")),
    slots=8,
    bars=(Bar(0, 0.0, 0.25, 0.75, "r1"),),
    idle_share=0.25,
    percent_of_limit=40.0,
    cost_per_million=0.5,
    currency="EUR",
    ranges={"output_throughput": (12.0, 13.0)},
)
TRIAL = Trial(
    replicas=2,
    max_num_seqs=8,
    max_num_batched_tokens=64,
    rate=3.0,
    attainment=0.5,
    attains=False,
    measured={"ttft_p99=1s": 1.5, "tpot=1s": None},
    cost_per_million=0.25,
)
SMALL = Report(title="A report", about={"Machine": "this"}, runs=(RUN,), price_per_hour=1.5)
SEARCH = replace(SMALL, answer="2 do", prediction=True, trials=(TRIAL,), currency="EUR")


@pytest.mark.parametrize("written", [SMALL, SEARCH])
def test_all_but_the_times_between_tokens_comes_back(written: Report, tmp_path: Path) -> None:
    write_report(tmp_path / "report.json", written)
    found = read_report(tmp_path / "report.json")
    without = (replace(RECORD, itls=()), RUN.records[1])
    assert found == replace(written, runs=(replace(RUN, records=without),))


def test_a_report_of_an_earlier_version_is_read() -> None:
    external = replace(SMALL, runs=(replace(RUN, kind="external", records=()),))
    old = dumps(external).replace('"external"', '"outside"')
    assert '"spread":0.5' in old
    assert loads(old) == external


def test_a_long_report_is_stable() -> None:
    text = dumps(report())
    assert dumps(loads(text)) == text


def test_an_empty_report() -> None:
    empty = Report(title="Nothing", about={}, runs=(), notes=("nothing ran",))
    assert loads(dumps(empty)) == empty


@given(
    st.text(),
    st.none() | st.floats(0, 1e9, allow_nan=False),
    st.dictionaries(st.text(), st.floats(allow_nan=False, allow_infinity=False)),
)
def test_any_words_and_figures_come_back(
    words: str, number: float | None, summary: dict[str, float]
) -> None:
    run = Run(system=words, group=words, summary=summary, length_cv=number, idle_share=number)
    one = Report(title=words, about={words: words}, runs=(run,), notes=(words,))
    assert loads(dumps(one)) == one


def _damaged(change: str, value: Any) -> str:
    """The small report's text with one place, such as runs.0.kind, set to something else."""
    found = json.loads(dumps(SMALL))
    place = found
    *parents, last = change.split(".")
    for name in parents:
        place = place[int(name) if name.isdigit() else name]
    place[last] = value
    return json.dumps(found)


@pytest.mark.parametrize(
    ("place", "value", "said"),
    [
        ("format", "other", "not a report"),
        ("version", 2, "version 2"),
        ("title", 3, "title"),
        ("runs", {}, "runs"),
        ("runs.0.kind", "measured", r"runs\[0\].kind: .*'measured'"),
        ("runs.0.spread", "wide", "spread"),
        ("runs.0.slots", True, "slots"),
        ("runs.0.records.ttft", [0.1], "columns differ"),
        ("runs.0.records.sent", ["now", 1.0], "records"),
        ("runs.0.records.outcome", ["ok", "lost"], "'lost'"),
        ("runs.0.bars.slot", [None], "bars"),
    ],
)
def test_damage_is_named(place: str, value: Any, said: str) -> None:
    with pytest.raises(InvalidRequest, match=said):
        loads(_damaged(place, value), name="file.json")


@pytest.mark.parametrize("text", ["", "{", "[]", "3", '{"format": "headway-report"}'])
def test_what_is_no_report_is_an_error(text: str) -> None:
    with pytest.raises(InvalidRequest, match="report"):
        loads(text)


def test_files_that_cannot_be_read_or_written(tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest, match="cannot read"):
        read_report(tmp_path / "missing.json")
    (tmp_path / "bytes.json").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InvalidRequest, match="malformed"):
        read_report(tmp_path / "bytes.json")
    with pytest.raises(InvalidRequest, match="cannot write"):
        write_report(tmp_path / "no" / "folder.json", SMALL)


def test_whom_requests_were_for_comes_back_and_is_written_only_where_somebody_said() -> None:
    columns = json.loads(dumps(SMALL))["runs"][0]["records"]
    assert not {"tenant", "service_class", "objectives"} & set(columns)
    told = replace(RUN.records[1], objectives=parse_objectives("ttft_p99=1s,tpot=50ms"))
    records = (replace(RECORD, itls=()), replace(told, service_class="batch"))
    one = replace(SMALL, runs=(replace(RUN, records=records),))
    assert loads(dumps(one)) == one
    columns = json.loads(dumps(one))["runs"][0]["records"]
    assert "objectives" in columns
    assert "tenant" not in columns
