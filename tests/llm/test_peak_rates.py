"""Asking a process for the machine's peak rates: which formats, and what is heard of failures."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from headway.cli.doctor import LIMITS_HEAD, limits_row
from headway.cli.main import main
from headway.config import EngineConfig
from headway.errors import EngineError, InvalidRequest
from headway.llm.peak_rates import measure_machine
from headway.native import available
from headway.steptime.shape import PeakRates

ECHO = """
import json, sys
words = sys.argv[1:]
for dtype in words[: words.index("--device")]:
    print(json.dumps({"device": " ".join(words), "flops_per_second": 1e12, "bandwidth": 2e10,
                      "dtype": dtype, "threads": 2}), flush=True)
"""


@pytest.mark.parametrize(
    ("config", "words"),
    [
        (
            EngineConfig(threads=3),
            "float32 bfloat16 int8 int4 --device cpu --threads 3",
        ),
        (
            EngineConfig(threads=2, dtype="int8", isa="avx2"),
            "int8 --device cpu --threads 2 --isa avx2",
        ),
        (
            EngineConfig(threads=1, backend="reference"),
            "float32 bfloat16 --device cpu --threads 1 --torch",
        ),
        (
            EngineConfig(threads=1, dtype="float16"),
            "float16 --device cpu --threads 1 --torch",
        ),
        (
            EngineConfig(threads=1, device="cuda"),
            "float32 bfloat16 float16 --device cuda --threads 1 --torch",
        ),
    ],
)
def test_formats_follow_from_who_would_compute(
    config: EngineConfig, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("headway.native.available", lambda: True)
    monkeypatch.setattr("headway.machine.has_nvidia_gpu", lambda: False)
    found = list(measure_machine(config, command=(sys.executable, "-c", ECHO)))
    assert {limits.device for limits in found} == {words}
    assert [limits.dtype for limits in found] == words.partition(" --")[0].split()


def test_without_torch_a_gpu_is_no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("headway.native.available", lambda: True)
    monkeypatch.setattr("headway.machine.has_nvidia_gpu", lambda: True)
    monkeypatch.setattr("headway.extras.find_spec", lambda name: None)
    found = list(measure_machine(EngineConfig(threads=1), command=(sys.executable, "-c", ECHO)))
    assert {limits.device for limits in found} == {
        "float32 bfloat16 int8 int4 --device cpu --threads 1"
    }
    monkeypatch.setattr("headway.native.available", lambda: False)
    with pytest.raises(InvalidRequest, match="install a C"):
        list(measure_machine(EngineConfig()))


@pytest.mark.parametrize(
    ("program", "message"),
    [
        ("import sys; sys.exit('a warning\\nno memory left')", "measured: no memory left"),
        ("import os; os._exit(7)", "measured: exit code 7"),
    ],
)
def test_a_failure_says_why(program: str, message: str) -> None:
    with pytest.raises(EngineError, match=message):
        list(measure_machine(EngineConfig(), command=(sys.executable, "-c", program)))


def test_what_is_no_answer_ends_the_process() -> None:
    program = "print('hello', flush=True); import time; time.sleep(600)"
    with pytest.raises(InvalidRequest, match="the measuring process: JSON"):
        list(measure_machine(EngineConfig(), command=(sys.executable, "-c", program)))


def test_limits_are_a_table() -> None:
    limits = PeakRates(
        device="x", flops_per_second=9.385e11, bandwidth=3.55e10, dtype="int8", threads=2
    )
    assert limits_row(limits).split() == ["int8", "938", "35.5"]
    assert len(limits_row(limits)) == len(LIMITS_HEAD)


@pytest.mark.skipif(not available(), reason="the native library is not built")
def test_doctor_measures_and_keeps(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HEADWAY_HOME", str(tmp_path))
    assert main(["doctor", "--limits", "--dtype", "int8", "--threads", "1", "--device", "cpu"]) == 0
    told = capsys.readouterr().out
    assert LIMITS_HEAD in told
    assert told.splitlines()[-1].startswith("int8 ")
    assert "Starting an engine" not in told
    (kept,) = (tmp_path / "limits").iterdir()
    assert "-int8-1-" in kept.name
