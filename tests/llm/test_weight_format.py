"""Which backend and formats are chosen, and which settings refused, before an engine starts."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from headway.checkpoint.quality_reports import MeasuredQuality, QualityReport, keep_quality_report
from headway.config import EngineConfig
from headway.errors import InvalidRequest
from headway.extras import has_torch
from headway.llm.weight_format import Capabilities, choose, ready_model, second_best
from tests.checkpoint.test_gguf import write

CPU = Capabilities(gpu=False, bfloat16=True, library=True, torch=True)
OLD_CPU = Capabilities(gpu=False, bfloat16=False, library=True, torch=True)
GPU = Capabilities(gpu=True, bfloat16=True, library=True, torch=True)
BARE = Capabilities(gpu=False, bfloat16=True, library=False, torch=True)
NO_TORCH = replace(CPU, torch=False)
GPU_NO_TORCH = replace(GPU, torch=False)
NOTHING = replace(BARE, torch=False)


def report(digest: str = "x", **losses: float) -> QualityReport:
    """Losses by form, "int8" or, with the KV cache in int8 too, "int8_int8"."""
    rows = []
    for name, loss in losses.items():
        form, _, cache = name.partition("_")
        row: Any = {"form": form, "kv_cache": cache or "bfloat16"}
        rows.append(MeasuredQuality(**row, perplexity=loss, divergence=0.0, agreement=1.0))
    return QualityReport(digest=digest, model="m", tokens=1, perplexity=10.0, forms=tuple(rows))


def chosen(
    capabilities: Capabilities, found: QualityReport | None = None, **settings: Any
) -> tuple[str, ...]:
    """Storage, backend, dtype and the KV cache's format."""
    config, stored = choose(EngineConfig(**settings), capabilities, found)
    return stored, config.backend, config.dtype, config.kv_cache_dtype


@pytest.mark.parametrize(
    ("found", "form", "kv_cache"),
    [
        (None, "bfloat16", "bfloat16"),
        (report(int4=0.009, int8=0.001, int8_int8=0.01, int4_int8=0.002), "int8", "int8"),
        (report(int4=0.009, int8=0.001, int8_int8=0.011), "int8", "bfloat16"),
        (report(int4=0.009, int8=0.011, int4_int8=0.002), "int4", "int8"),
        (report(int4=0.009, int8=0.011, int4_int8=0.02), "int4", "bfloat16"),
        (report(int4=0.011, int8=-0.011), "bfloat16", "bfloat16"),
    ],
)
def test_the_fastest_form_that_passes(
    found: QualityReport | None, form: str, kv_cache: str
) -> None:
    assert chosen(CPU, found) == (f"native-{form}", "native", form, kv_cache)


def test_avx2_prefers_four_bits() -> None:
    found = report(int4=0.009, int8=0.001, int8_int8=0.01, int4_int8=0.011)
    without = replace(CPU, bfloat16=False, avx2=True)
    assert chosen(without, found)[2:] == ("int4", "bfloat16")
    assert chosen(without, found, dtype="int8")[2:] == ("int8", "int8")
    assert chosen(without, report(int4=0.011, int8=0.001))[2:] == ("int8", "bfloat16")
    assert chosen(CPU, found, isa="avx2")[2:] == ("int4", "bfloat16")
    assert chosen(without, found, isa="portable")[2:] == ("int8", "int8")


def test_a_form_that_is_given_gets_the_fastest_cache_that_passes() -> None:
    found = report(int4=0.001, int4_int8=0.005, int8_int8=0.02)
    assert chosen(CPU, found, dtype="int4")[2:] == ("int4", "int8")
    assert chosen(CPU, found, dtype="int8")[2:] == ("int8", "bfloat16")


def test_without_bfloat16_and_verdict_it_is_float32() -> None:
    assert chosen(OLD_CPU) == ("native-float32", "native", "float32", "float32")


def test_a_verdict_holds_for_its_kv_cache_only() -> None:
    found = report(int4=0.001, int4_int8=0.02, int8_int8=0.002)
    assert chosen(CPU, found, kv_cache_dtype="int8")[2:] == ("int8", "int8")
    assert chosen(CPU, found, kv_cache_dtype="float32")[2:] == ("bfloat16", "float32")


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "int8", "int4"])
def test_a_form_that_is_asked_for_needs_no_report(dtype: str) -> None:
    stored, backend, form, _ = chosen(CPU, report(int4=0.5, int8=0.5), dtype=dtype)
    assert (stored, backend, form) == (f"native-{dtype}", "native", dtype)


def test_the_reference_is_used_where_the_native_backend_cannot_be() -> None:
    assert chosen(BARE)[:3] == ("bfloat16", "reference", "bfloat16")
    assert chosen(GPU)[:3] == ("bfloat16", "reference", "bfloat16")
    assert chosen(CPU, backend="reference")[:3] == ("bfloat16", "reference", "bfloat16")
    assert chosen(OLD_CPU, backend="reference")[:3] == ("float32", "reference", "float32")
    assert chosen(CPU, device="cuda", dtype="float16")[:2] == ("float16", "reference")


def test_a_gpu_may_be_left_alone() -> None:
    assert chosen(GPU, device="cpu")[1] == "native"
    config, _ = choose(EngineConfig(backend="native"), GPU, None)
    assert (config.backend, config.device) == ("native", "cpu")


def test_without_torch_the_native_kernels_compute_all_that_they_can() -> None:
    assert chosen(NO_TORCH) == chosen(CPU)
    assert chosen(NO_TORCH, dtype="int4", device="cpu") == chosen(CPU, dtype="int4", device="cpu")
    assert chosen(GPU_NO_TORCH) == chosen(CPU)
    assert chosen(GPU_NO_TORCH, dtype="int8")[1:3] == ("native", "int8")


@pytest.mark.parametrize(
    ("capabilities", "settings", "says"),
    [
        (CPU, {}, None),
        (GPU, {}, None),
        (NO_TORCH, {}, None),
        (GPU_NO_TORCH, {}, "pip install 'headway[torch]'"),
        (GPU_NO_TORCH, {"device": "cpu"}, None),
        (GPU_NO_TORCH, {"backend": "native"}, None),
        (BARE, {}, "install a C++ compiler"),
        (BARE, {"backend": "reference"}, None),
        (replace(GPU, library=False), {}, None),
        (replace(GPU, library=False), {"device": "cpu"}, "install a C++ compiler"),
    ],
)
def test_what_would_make_it_faster_is_named(
    capabilities: Capabilities, settings: dict[str, Any], says: str | None
) -> None:
    found = second_best(EngineConfig(**settings), capabilities)
    assert found == says if says is None or found is None else says in found


@pytest.mark.parametrize(
    ("capabilities", "settings", "field", "says"),
    [
        (CPU, {"dtype": "float16"}, "dtype", "no float16"),
        (CPU, {"block_size": 8}, "block_size", "blocks of 8"),
        (GPU, {"dtype": "int8"}, "dtype", "on a CPU"),
        (BARE, {"dtype": "int8"}, "dtype", "not built"),
        (BARE, {"backend": "native"}, "backend", "not built"),
        (BARE, {"kv_cache_dtype": "int8"}, "kv_cache_dtype", "not built"),
        (BARE, {"isa": "avx2"}, "isa", "avx2 needs the native kernels"),
        (BARE, {"pin_threads": True}, "pin_threads", "not built"),
        (NO_TORCH, {"backend": "reference"}, "backend", r"reference .* 'headway\[torch\]'"),
        (NO_TORCH, {"device": "cuda"}, "device", r"cuda .* 'headway\[torch\]'"),
        (GPU_NO_TORCH, {"device": "cuda"}, "device", r"cuda .* 'headway\[torch\]'"),
        (NOTHING, {"dtype": "float16"}, "dtype", r"float16 .* 'headway\[torch\]'"),
        (NOTHING, {"dtype": "int8"}, "dtype", r"C\+\+ compiler"),
        (NOTHING, {}, "backend", r"C\+\+ compiler, .* or pip install 'headway\[torch\]'"),
        (GPU_NO_TORCH, {"dtype": "float16"}, "dtype", "no float16"),
    ],
)
def test_what_cannot_be_met_is_refused(
    capabilities: Capabilities, settings: dict[str, Any], field: str, says: str
) -> None:
    with pytest.raises(InvalidRequest, match=says) as caught:
        choose(EngineConfig(**settings), capabilities, None)
    assert caught.value.field == field


def test_what_cannot_be_computed_is_not_even_looked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("headway.machine.has_nvidia_gpu", lambda: False)
    monkeypatch.setattr("headway.native.available", lambda: False)
    monkeypatch.setattr("headway.extras.find_spec", lambda name: None)
    with pytest.raises(InvalidRequest, match="install a C"):
        ready_model(EngineConfig(model="no-such-model"), progress=False)


@pytest.mark.parametrize("absent", ["torch", "safetensors"])
def test_torch_is_installed_with_all_that_it_is_used_with(
    absent: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert has_torch()
    monkeypatch.setattr("headway.extras.find_spec", lambda name: None if name == absent else name)
    assert not has_torch()


def test_a_model_is_prepared_as_it_was_chosen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    monkeypatch.setenv("HEADWAY_HOME", str(tmp_path / "home"))
    monkeypatch.setattr("headway.machine.has_nvidia_gpu", lambda: False)
    monkeypatch.setattr("headway.native.available", lambda: True)
    write(tmp_path / "m.gguf")
    config = EngineConfig(model=str(tmp_path / "m.gguf"))
    _, prepared = ready_model(config, progress=False)
    assert prepared.storage in ("native-bfloat16", "native-float32")
    keep_quality_report(report(prepared.folder.name.partition("-")[0], int8=0.0))
    settled, prepared = ready_model(config, progress=False)
    assert (prepared.storage, settled.dtype) == ("native-int8", "int8")
    assert not caplog.messages
    monkeypatch.setattr("headway.native.available", lambda: False)
    settled, prepared = ready_model(config, progress=False)
    assert (prepared.storage, settled.backend) == (settled.dtype, "reference")
    assert "several times slower" in caplog.text
