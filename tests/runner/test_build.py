"""What is decided when a runner is built: limits, blocks, types, and the refusals."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from headway.config import EngineConfig
from headway.errors import InvalidRequest, ModelError
from headway.runner import build_runner
from headway.runner.memory import CacheBudget, count_blocks
from headway.types import Limits

LIMITS = Limits(
    max_num_seqs=4, max_num_batched_tokens=64, max_num_partial_prefills=2, max_model_len=100
)


def budget(**changes: Any) -> CacheBudget:
    plain = {"given": None, "fraction": 0.5, "free_before": 10_000, "free_after": 9_000}
    return CacheBudget(**{**plain, **changes})


@pytest.mark.parametrize(
    ("given", "size"),
    [
        (budget(), 4_000),
        (budget(given=77), 77),
        (budget(free_after=11_000), 5_000),
        (budget(free_after=1_000), 0),
        (budget(fraction=1.0, free_after=2_000), 2_000),
    ],
)
def test_budget(given: CacheBudget, size: int) -> None:
    assert given.size == size


def test_blocks_fill_the_budget_up_to_what_the_limits_can_use() -> None:
    fits = count_blocks(budget(given=1_000), block_bytes=100, block_size=32, limits=LIMITS)
    assert fits == 10
    most = count_blocks(budget(given=10**9), block_bytes=100, block_size=32, limits=LIMITS)
    assert most == 16  # 4 sequences of 4 blocks


def test_a_bound_on_the_cache_yields_to_one_long_sequence() -> None:
    longest = -(-LIMITS.max_model_len // 32)
    for most, blocks in (((longest + 3) * 100, longest + 3), (1, longest)):
        bounded = budget(given=10**9, most=most)
        found = count_blocks(bounded, block_bytes=100, block_size=32, limits=LIMITS)
        assert found == blocks


def test_too_little_memory_names_the_flags() -> None:
    with pytest.raises(InvalidRequest, match=r"--max-model-len of at most 96.*--kv-cache-memory"):
        count_blocks(budget(given=399), block_bytes=100, block_size=32, limits=LIMITS)


def test_defaults_come_from_the_model_and_the_device(tiny: Path) -> None:
    loaded = build_runner(EngineConfig(device="cpu", dtype="float32", threads=1), tiny)
    assert loaded.limits == Limits(
        max_num_seqs=256, max_num_batched_tokens=512, max_num_partial_prefills=1, max_model_len=256
    )
    assert (loaded.hardware.device, loaded.hardware.dtype, loaded.hardware.threads) == (
        "cpu",
        "float32",
        1,
    )
    # 2 x 4 layers x 2 heads x 16 components x 4 bytes x 32 positions
    assert loaded.kv_bytes == loaded.num_blocks * 32768
    assert loaded.num_blocks == 256 * 8
    assert torch.get_num_threads() == 1


def test_pins_are_kept(tiny: Path) -> None:
    config = EngineConfig(
        device="cpu",
        dtype="bfloat16",
        threads=1,
        max_model_len=64,
        max_num_seqs=3,
        max_num_batched_tokens=48,
        block_size=16,
        kv_cache_memory=2**17,
    )
    loaded = build_runner(config, tiny)
    assert loaded.limits.max_model_len == 64
    assert loaded.limits.max_num_seqs == 3
    assert loaded.limits.max_num_batched_tokens == 48
    assert loaded.num_blocks == 12
    assert loaded.hardware.dtype == "bfloat16"


def test_a_length_that_nobody_asked_for_is_cut_to_fit(
    tiny: Path, caplog: pytest.LogCaptureFixture
) -> None:
    config = EngineConfig(device="cpu", dtype="float32", threads=1, kv_cache_memory=3 * 32768)
    loaded = build_runner(config, tiny)
    assert loaded.limits.max_model_len == 96
    assert loaded.num_blocks == 3
    assert "max_model_len" in caplog.text
    with pytest.raises(InvalidRequest, match="at most 96"):
        build_runner(replace(config, max_model_len=97), tiny)
    with pytest.raises(InvalidRequest, match="kv-cache-memory"):
        build_runner(replace(config, kv_cache_memory=100), tiny)


def test_a_length_beyond_the_model_is_refused(tiny: Path) -> None:
    with pytest.raises(InvalidRequest, match="256 positions") as caught:
        build_runner(EngineConfig(device="cpu", threads=1, max_model_len=257), tiny)
    assert caught.value.field == "max_model_len"


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_a_missing_gpu_is_refused(tiny: Path) -> None:
    with pytest.raises(InvalidRequest, match="CUDA") as caught:
        build_runner(EngineConfig(device="cuda", threads=1), tiny)
    assert caught.value.field == "device"


def test_torch_that_is_not_installed_is_one_clear_error(
    tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("headway.extras.find_spec", lambda name: None)
    with pytest.raises(
        InvalidRequest, match=r"float32 needs PyTorch.*'headway\[torch\]'"
    ) as caught:
        build_runner(EngineConfig(device="cpu", threads=1), tiny)
    assert caught.value.field == "backend"


def test_a_damaged_weights_file_is_one_clear_error(tiny: Path, tmp_path: Path) -> None:
    for name in ("model.json", "text.json", "tokenizer.json"):
        (tmp_path / name).write_bytes((tiny / name).read_bytes())
    (tmp_path / "weights.safetensors").write_bytes(b"\x00" * 100)
    with pytest.raises(ModelError, match="safetensors"):
        build_runner(EngineConfig(device="cpu", threads=1), tmp_path)
