"""Dimensions to sizes: against the published numbers of real models."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from headway.errors import InvalidRequest
from headway.steptime.architecture import Architecture, model_sizes

LLAMA_8B = Architecture(
    hidden=4096,
    layers=32,
    heads=32,
    kv_heads=8,
    head_dim=128,
    intermediate=14336,
    vocab=128256,
)
QWEN_30B_A3B = Architecture(
    hidden=2048,
    layers=48,
    heads=32,
    kv_heads=4,
    head_dim=128,
    intermediate=6144,
    vocab=151936,
    experts=128,
    experts_per_token=8,
    expert_intermediate=768,
    expert_layers=48,
)


def test_the_parameters_of_a_dense_model() -> None:
    assert LLAMA_8B.parameters == pytest.approx(8.03e9, rel=0.001)
    sizes = model_sizes(LLAMA_8B, name="llama", weight_bits=16, kv_bytes_per_element=2)
    assert sizes.layer_bytes + 2 * sizes.lm_head_bytes == 2 * LLAMA_8B.parameters
    assert sizes.flops_per_token + 2 * sizes.lm_head_flops == 2 * LLAMA_8B.parameters
    assert sizes.kv_bytes_per_token == 131072
    assert sizes.expert_bytes == 0.0


def test_the_parameters_of_a_mixture_and_those_that_a_token_uses() -> None:
    assert QWEN_30B_A3B.parameters == pytest.approx(30.5e9, rel=0.01)
    sizes = model_sizes(QWEN_30B_A3B, name="qwen", weight_bits=16, kv_bytes_per_element=2)
    assert (sizes.flops_per_token + 2 * sizes.lm_head_flops) / 2 == pytest.approx(3.3e9, rel=0.02)
    assert sizes.expert_share == 1 / 16
    assert sizes.expert_bytes == pytest.approx(2 * 48 * 128 * 3 * 2048 * 768)


def test_a_head_in_another_form_and_bytes_that_were_counted() -> None:
    four = model_sizes(
        LLAMA_8B, name="llama", weight_bits=4.5, head_bits=8.5, kv_bytes_per_element=1
    )
    assert four.lm_head_bytes == 4096 * 128256 * 8.5 / 8
    counted = model_sizes(
        LLAMA_8B,
        name="llama",
        weight_bits=4.5,
        head_bits=8.5,
        kv_bytes_per_element=1,
        weight_bytes=6e9,
    )
    assert counted.layer_bytes == 6e9 - 2 * four.lm_head_bytes
    assert counted.flops_per_token == four.flops_per_token


SMALL = Architecture(hidden=8, layers=6, heads=2, kv_heads=1, head_dim=4, intermediate=16, vocab=9)


def test_layers_with_a_window() -> None:
    some = replace(SMALL, window=512, window_layers=5)
    sizes = model_sizes(some, name="some", weight_bits=16, kv_bytes_per_element=2)
    assert (sizes.full_layers, sizes.window_layers, sizes.window) == (1, 5, 512)
    none = replace(SMALL, window=512)
    assert model_sizes(none, name="none", weight_bits=16, kv_bytes_per_element=2).window is None


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"window_layers": 5}, "window"),
        ({"window_layers": 7, "window": 5}, "between 0 and 6"),
        ({"expert_layers": 2, "experts": 4}, "experts_per_token"),
        ({"layers": 0}, "layers"),
    ],
)
def test_absurd_dimensions_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidRequest, match=message):
        replace(SMALL, **changes)
