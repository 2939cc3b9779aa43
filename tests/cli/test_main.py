"""The command's edges: help, version, wrong usage, and errors in one line."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from headway import __version__
from headway.cli.doctor import machine_facts
from headway.cli.main import COMMANDS, main


def test_version_and_help(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["--version"])
    assert caught.value.code == 0
    assert __version__ in capsys.readouterr().out
    with pytest.raises(SystemExit):
        main(["--help"])
    shown = capsys.readouterr().out
    assert all(command in shown for command in COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main([command, "--help"])
    assert caught.value.code == 0
    assert len(capsys.readouterr().out.splitlines()) > 5


def test_wrong_usage(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["serve", "--no-such-flag"])
    assert caught.value.code == 2
    assert "--no-such-flag" in capsys.readouterr().err


def test_a_bad_setting_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["generate", "hello", "--temperature", "-1"]) == 1
    shown = capsys.readouterr().err.strip()
    assert shown.startswith("headway:")
    assert "temperature" in shown
    assert "\n" not in shown


def test_the_command_line_starts_without_torch() -> None:
    code = (
        "import sys, headway.cli.main as m, headway.cli.serve, headway.server, headway.llm;"
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_doctor_tells_what_it_found() -> None:
    facts = dict(machine_facts())
    assert facts["headway"] == __version__
    assert int(facts["cores"]) >= 1
    assert all(facts.values())


def test_models_come_and_go(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HEADWAY_HOME", str(tmp_path))
    assert main(["models", "list"]) == 0
    assert "smollm2-135m-instruct" in capsys.readouterr().out
    assert main(["models", "rm", "smollm2-135m-instruct"]) == 1
    assert "nothing of this name" in capsys.readouterr().err
    assert main(["models", "pull", "no/such:model"]) == 1
    assert capsys.readouterr().err.startswith("headway: ")
