"""The machine's peak rates: measured by whoever computes, kept, and never in an engine's way."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest

from headway import machine, native
from headway.errors import EngineError
from headway.runner import peak_rates
from headway.runner.peak_rates import (
    keep_exceeded_rates,
    keep_peak_rates,
    kept_peak_rates,
    measure_peak_rates,
    peak_rates_here,
)
from headway.runner.peak_rates import native as native_rates
from headway.runner.peak_rates import torch as torch_rates
from headway.steptime.shape import PeakRates

RATES = PeakRates(
    device=machine.processor(), flops_per_second=1e12, bandwidth=3e10, dtype="int8", threads=2
)
KEY: Any = {"dtype": "int8", "threads": 2, "isa": "avx2"}

needs_library = pytest.mark.skipif(not native.available(), reason="the library is not built")


@pytest.fixture(autouse=True)
def _home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HEADWAY_HOME", str(tmp_path))
    return tmp_path


@pytest.fixture(name="measured")
def _measured(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """Instead of measuring, note what was to be measured."""
    asked: list[dict[str, Any]] = []

    def measure(**what: Any) -> PeakRates:
        asked.append(what)
        return RATES

    monkeypatch.setattr(peak_rates, "measure_peak_rates", measure)
    return asked


def test_peak_rates_are_measured_once(measured: list[dict[str, Any]]) -> None:
    assert peak_rates_here(device="cpu", **KEY) == RATES
    assert peak_rates_here(device="cpu", **KEY) == RATES
    assert measured == [{"device": "cpu", **KEY}]


@pytest.mark.parametrize("change", [{"dtype": "int4"}, {"threads": 3}, {"isa": None}])
def test_other_formats_threads_and_kernels_have_their_own(
    measured: list[dict[str, Any]], change: dict[str, Any]
) -> None:
    keep_peak_rates(RATES, isa="avx2")
    assert kept_peak_rates(RATES.device, **KEY) == RATES
    assert kept_peak_rates(RATES.device, **{**KEY, **change}) is None
    assert kept_peak_rates("another", **KEY) is None


@pytest.mark.parametrize(
    "damage",
    [
        b"",
        b"[]",
        b'{"version": 2}',
        {"version": 1},
        {"kernels": "sse"},
        {"limits": {"device": "x"}},
        {"colour": 1},
    ],
)
def test_a_file_that_is_not_ours_is_measured_over(
    measured: list[dict[str, Any]], tmp_path: Path, damage: bytes | dict[str, Any]
) -> None:
    keep_peak_rates(RATES, isa="avx2")
    (file,) = (tmp_path / "limits").iterdir()
    whole = json.loads(file.read_bytes())
    file.write_bytes(damage if isinstance(damage, bytes) else json.dumps(whole | damage).encode())
    assert peak_rates_here(device="cpu", **KEY) == RATES
    assert len(measured) == 1
    assert json.loads(file.read_bytes()) == whole


def test_the_best_measurement_is_kept() -> None:
    """Other work can only make one lower."""
    faster = replace(RATES, bandwidth=2 * RATES.bandwidth)
    slower = replace(RATES, bandwidth=RATES.bandwidth / 2)
    assert keep_peak_rates(RATES, isa="avx2") == RATES
    assert keep_peak_rates(slower, isa="avx2") == RATES
    more = replace(faster, flops_per_second=RATES.flops_per_second / 2)
    assert keep_peak_rates(more, isa="avx2") == faster
    assert kept_peak_rates(RATES.device, **KEY) == faster


def test_rates_that_were_exceeded_are_measured_once_more(measured: list[dict[str, Any]]) -> None:
    keep_peak_rates(replace(RATES, bandwidth=1.0, flops_per_second=1.0), isa="avx2")
    reached = replace(RATES, bandwidth=RATES.bandwidth / 2, flops_per_second=1.0)
    keep_exceeded_rates(reached, isa="avx2")
    assert kept_peak_rates(RATES.device, **KEY) == reached
    assert measured == []
    for _ in range(2):
        assert peak_rates_here(device="cpu", **KEY) == RATES
    assert len(measured) == 1


def test_exceeded_rates_stand_where_nothing_can_be_measured(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    keep_exceeded_rates(RATES, isa="avx2")

    def fail(**_: Any) -> PeakRates:
        raise EngineError("no memory left")

    monkeypatch.setattr(peak_rates, "measure_peak_rates", fail)
    assert peak_rates_here(device="cpu", **KEY) == RATES


def test_exceeded_rates_that_cannot_be_kept_are_no_fault(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "limits").write_text("a file where the folder should be")
    keep_exceeded_rates(RATES, isa="avx2")
    assert "cannot be kept" in caplog.text


def test_what_cannot_be_measured_is_logged_and_unknown(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(**_: Any) -> PeakRates:
        raise EngineError("no memory left")

    monkeypatch.setattr(peak_rates, "measure_peak_rates", fail)
    assert peak_rates_here(device="cpu", **KEY) is None
    assert "peak rates cannot be measured: no memory left" in caplog.text


def test_a_cache_that_cannot_be_written_is_no_reason_to_fail(
    measured: list[dict[str, Any]], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "limits").write_text("a file where the folder should be")
    assert peak_rates_here(device="cpu", **KEY) == RATES
    assert "measured again at the next start" in caplog.text


@needs_library
@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "int8", "int4"])
def test_every_instruction_set_can_be_measured(dtype: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(native_rates, "memory_to_read", lambda: 2**21)
    for isa in native.supported(native.load()):
        rates = native_rates.measure_native(dtype=dtype, threads=2, isa=isa, seconds=0.002)
        assert all(0 < rate < 1e16 for rate in rates)


@needs_library
def test_a_failure_of_the_library_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(native_rates, "memory_to_read", lambda: 1)
    with pytest.raises(EngineError, match=r"measuring int8 gave .* and -1\.0 bytes"):
        measure_peak_rates(device="cpu", dtype="int8", threads=1, isa="portable")


def test_formats_that_a_backend_lacks_are_said() -> None:
    with pytest.raises(EngineError, match="no weight format float16"):
        native_rates.measure_native(dtype="float16", threads=1, isa="portable")
    with pytest.raises(EngineError, match="not in int8"):
        torch_rates.measure_torch(device="cpu", dtype="int8", threads=1)


def test_what_is_read_is_more_than_caches_hold_and_less_than_is_free(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(machine, "available_memory", lambda: 2**34)
    monkeypatch.setattr(machine, "last_level_cache", lambda: 2**25)
    assert native_rates.memory_to_read() == 2**28
    monkeypatch.setattr(machine, "last_level_cache", lambda: 2**29)
    assert native_rates.memory_to_read() == 2**30
    monkeypatch.setattr(machine, "available_memory", lambda: 2**28)
    assert native_rates.memory_to_read() == 2**26


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_pytorch_measures_itself(dtype: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch_rates, "_CPU_WIDTH", 64)
    monkeypatch.setattr(torch_rates, "_CPU_BYTES", 2**16)
    rates = measure_peak_rates(device="cpu", dtype=dtype, threads=1, isa=None)
    assert (rates.device, rates.dtype, rates.threads) == (machine.processor(), dtype, 1)
    assert 0 < rates.flops_per_second < 1e16
    assert 0 < rates.bandwidth < 1e16


@needs_library
def test_a_program_of_its_own() -> None:
    isa = native.choose_isa(None)
    command = [sys.executable, "-m", "headway.runner.peak_rates"]
    ran = subprocess.run(
        [*command, "int8", "float32", "--threads", "2"], capture_output=True, check=True
    )
    found = [msgspec.json.decode(line, type=PeakRates) for line in ran.stdout.splitlines()]
    assert [rates.dtype for rates in found] == ["int8", "float32"]
    for rates in found:
        assert kept_peak_rates(rates.device, dtype=rates.dtype, threads=2, isa=isa) == rates
    failed = subprocess.run(
        [*command, "int8", "--threads", "1", "--isa", "abacus"], capture_output=True, check=False
    )
    assert failed.returncode == 1
    assert b"abacus" in failed.stderr
