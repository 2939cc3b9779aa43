"""Files that Headway 0.1.0 wrote (`tests/old_files`) are read, or refused with what to do."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from headway.checkpoint.quality_reports import find_quality_report
from headway.codec import parse
from headway.errors import InvalidRequest
from headway.perf.records.record import read_records
from headway.perf.report.run import read_report
from headway.perf.workload.traces import read_trace
from headway.recording.format import read_recordings
from headway.runner.peak_rates import keep_peak_rates, kept_peak_rates
from headway.steptime.profiles import find_profile, load_profile, read_profile
from headway.steptime.shape import PeakRates
from headway.types.model import ModelConfig, TextConfig

OLD = Path(__file__).parent / "old_files"


@pytest.fixture(name="home")
def _home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HEADWAY_HOME", str(tmp_path))
    return tmp_path


@pytest.mark.parametrize(
    ("read", "name", "message"),
    [
        (read_recordings, "recording.jsonl", "line 1 has version 1 .* reads 2: record again"),
        (read_profile, "profile.json", "has version 1 .* reads 2: make it anew with `headway pro"),
    ],
)
def test_refused_in_one_line_that_says_what_to_do(
    read: Callable[[Path], object], name: str, message: str
) -> None:
    with pytest.raises(InvalidRequest, match=f"{name}.*{message}") as caught:
        read(OLD / name)
    assert "\n" not in caught.value.message


def test_a_kept_profile_is_passed_over_and_named_when_asked_for(home: Path) -> None:
    (home / "profiles").mkdir()
    shutil.copy(OLD / "profile.json", home / "profiles" / "old.json")
    assert find_profile() is None
    with pytest.raises(InvalidRequest, match="headway profile"):
        load_profile("old")


def test_kept_limits_are_measured_again(home: Path, caplog: pytest.LogCaptureFixture) -> None:
    limits = PeakRates(device="a chip", flops_per_second=1.0, bandwidth=1.0, dtype="i", threads=2)
    keep_peak_rates(limits, isa="avx2")
    (kept,) = (home / "limits").iterdir()
    assert kept_peak_rates("a chip", dtype="i", threads=2, isa="avx2") == limits
    shutil.copy(OLD / "limits.json", kept)
    assert kept_peak_rates("a chip", dtype="i", threads=2, isa="avx2") is None
    assert "measured again" in caplog.text


def test_a_kept_quality_report_is_read(home: Path) -> None:
    (home / "quality").mkdir()
    shutil.copy(OLD / "quality.json", home / "quality" / f"{'0' * 24}.json")
    found = find_quality_report("0" * 24)
    assert found is not None
    assert found.passes("int8", "bfloat16")


def test_a_prepared_model_is_read() -> None:
    model = parse(ModelConfig, (OLD / "model.json").read_bytes())
    assert (model.name, model.sliding_layers) == ("tiny", (True,))
    assert parse(TextConfig, (OLD / "text.json").read_bytes()).chat_template == "{{ x }}"


def test_reports_records_and_workloads_are_read() -> None:
    (run,) = read_report(OLD / "report.json").runs
    records = read_records(OLD / "records.jsonl")
    assert (
        [record.id for record in run.records] == [record.id for record in records] == ["r1", "r2"]
    )
    assert records[0].itls == (0.25, 0.25)
    assert [bar.end for bar in run.bars] == [0.75]
    first, second = read_trace(OLD / "workload.jsonl").requests
    assert (first.prompt_tokens, first.output, first.cap) == (11, 4, 9)
    assert second.at == 0.5
