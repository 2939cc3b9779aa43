"""Sizes of real model descriptions, and of packed weights as they lie in a file."""

from __future__ import annotations

from dataclasses import replace

import pytest

from headway.checkpoint import ModelConfig
from headway.engine.sizes import architecture_of, sizes_of, weight_bits

SMOLLM = ModelConfig(
    architecture="llama",
    name="smollm2-135m",
    vocab_size=49152,
    hidden_size=576,
    num_layers=30,
    num_heads=9,
    num_kv_heads=3,
    head_dim=64,
    intermediate_size=1536,
    max_position=8192,
    tie_embeddings=True,
)


def test_the_default_model_in_bfloat16() -> None:
    found = sizes_of(SMOLLM, dtype="bfloat16", kv_cache_dtype="bfloat16")
    assert found.name == "smollm2-135m"
    assert found.layer_bytes + found.lm_head_bytes == pytest.approx(2 * 134.5e6, rel=0.01)
    assert found.kv_bytes_per_token == 30 * 2 * 3 * 64 * 2
    assert (found.full_layers, found.window_layers, found.window) == (30, 0, None)


@pytest.mark.parametrize(
    ("dtype", "bits"),
    [("float32", 32.0), ("bfloat16", 16.0), ("float16", 16.0), ("int8", 8.25), ("int4", 5.0)],
)
def test_bits_of_a_weight_count_its_scales(dtype: str, bits: float) -> None:
    assert weight_bits(dtype) == bits


def test_four_bits_leave_the_head_in_eight() -> None:
    found = sizes_of(SMOLLM, dtype="int4", kv_cache_dtype="int8")
    assert found.lm_head_bytes == 576 * 49152 * 8.25 / 8
    # A key or value of 64 elements has one scale of four bytes.
    assert found.kv_bytes_per_position == 2 * 3 * (64 + 4)


def test_counted_bytes_are_believed() -> None:
    computed = sizes_of(SMOLLM, dtype="int8", kv_cache_dtype="int8")
    total = computed.layer_bytes + computed.lm_head_bytes
    counted = sizes_of(SMOLLM, dtype="int8", kv_cache_dtype="int8", weight_bytes=int(total) + 900)
    assert counted.layer_bytes == pytest.approx(computed.layer_bytes + 900)


def test_sliding_layers_and_mixtures_are_counted() -> None:
    sliding = replace(
        SMOLLM, sliding_window=512, sliding_layers=tuple(n % 6 != 5 for n in range(30))
    )
    found = architecture_of(sliding)
    assert (found.window, found.window_layers) == (512, 25)
    mixture = replace(
        SMOLLM,
        num_experts=8,
        num_experts_per_token=2,
        moe_intermediate_size=256,
        moe_layers=tuple(n >= 3 for n in range(30)),
    )
    assert architecture_of(mixture).expert_layers == 27
    sizes = sizes_of(mixture, dtype="int8", kv_cache_dtype="int8")
    assert sizes.expert_share == 0.25
    assert sizes.expert_bytes == 27 * 8 * 3 * 576 * 256 * 8.25 / 8
