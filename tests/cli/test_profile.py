"""`headway profile` on recordings: fit, keep, list, check, and what it refuses."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from headway.cli.main import main
from headway.steptime.profiles import load_profile, profile_names, read_profile
from tests.recording.samples import write_recordings
from tests.recording.test_fitting import recording


@pytest.fixture(autouse=True)
def _home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEADWAY_HOME", str(tmp_path / "home"))


@pytest.fixture
def steps(tmp_path: Path) -> Path:
    path = tmp_path / "steps.jsonl"
    write_recordings(path, [recording(1)])
    return path


def test_a_recording_becomes_a_kept_profile(
    steps: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copy = tmp_path / "copy.json"
    assert main(["profile", "--from", str(steps), "--output", str(copy)]) == 0
    shown = capsys.readouterr().out
    assert "fitted to 200 steps" in shown
    assert "decode cache" in shown
    (name,) = profile_names()
    assert name in shown
    assert load_profile(name) == read_profile(copy)
    assert main(["profile", "--list"]) == 0
    assert capsys.readouterr().out.split() == [name]


def test_a_kept_profile_is_checked_on_another_recording(
    steps: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    held_out = tmp_path / "other.jsonl"
    write_recordings(held_out, [recording(2, slower=1.25)])
    assert main(["profile", "--from", str(steps), "--check", str(held_out)]) == 0
    assert "predicted / measured: 0.8" in capsys.readouterr().out
    (name,) = profile_names()
    for extra in ([], ["--profile", name]):
        assert main(["profile", "--check", str(held_out), *extra]) == 0
        shown = capsys.readouterr().out
        assert "fitted" not in shown
        assert "mixed" in shown
        assert "predicted / measured: 0.8" in shown


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--check", "STEPS"], "no profile is kept"),
        (["--check", "STEPS", "--profile", "absent"], "neither a file nor a stored profile"),
        (["--profile", "some"], "give both"),
        (["--from", "STEPS", "--check", "STEPS", "--profile", "some"], "leave out"),
        (["--from", "nowhere.jsonl"], "cannot read"),
        (["--from", "STEPS", "--output", "nowhere/at/all.json"], "cannot write"),
        (["--seconds", "0"], "more than 0"),
    ],
)
def test_what_cannot_be_is_one_line_that_says_why(
    words: list[str], message: str, steps: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = [str(steps) if word == "STEPS" else word for word in words]
    assert main(["profile", *given]) == 1
    assert message in capsys.readouterr().err


def test_fitting_needs_no_engine_and_no_tensors(steps: Path) -> None:
    program = (
        "import sys; from headway.cli.main import main; "
        f"main(['profile', '--from', {str(steps)!r}]); "
        "bad = {'torch', 'numpy', 'headway.llm', 'headway.client'} & sys.modules.keys(); "
        "sys.exit(', '.join(bad) or 0)"
    )
    subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, timeout=60)
