"""The reference's operations against formulas written out."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from headway.errors import ModelError
from headway.ops import AttentionSpec, CacheShape
from headway.ops.reference import HostBatch, ReferenceBackend, onednn_bfloat16
from headway.ops.reference.attention import store
from headway.ops.reference.backend import norm, rotate

CPU = torch.device("cpu")
SHAPE = CacheShape(num_layers=1, num_blocks=4, block_size=8, num_kv_heads=1, head_dim=2)


class Bench:
    """A step of one slice (tokens 2 and 0 at positions 7 and 8) over the given tensors."""

    def __init__(
        self, folder: Path, tensors: Mapping[str, torch.Tensor], dtype: torch.dtype = torch.float32
    ) -> None:
        save_file(dict(tensors), folder / "weights.safetensors")
        backend = ReferenceBackend(device=CPU, dtype=dtype)
        self.weights = backend.weights(folder / "weights.safetensors")
        self.cache = backend.allocate(SHAPE)
        host = HostBatch(
            tokens=np.array([2, 0]),
            starts=np.array([7]),
            counts=np.array([2]),
            tables=np.array([[3, 1]]),
        )
        self.batch = backend.batch(host, SHAPE, [None], 2)
        self.ops = backend.step(self.weights, self.cache, self.batch)


def randn(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(sum(shape)))


def test_norm_is_over_rows() -> None:
    x, weight = randn(5, 12) * 3, randn(12)
    expected = x / (x.pow(2).mean(-1, keepdim=True) + 0.5).sqrt() * weight
    torch.testing.assert_close(norm(x, weight, 0.5), expected)


def test_rotate_turns_pairs_of_halves() -> None:
    x, angle = randn(3, 2, 4), torch.tensor([[0.1, 0.2], [1.0, 2.0], [3.0, -1.0]])
    wide = torch.cat((angle, angle), dim=-1)
    found = rotate(x, wide.cos(), wide.sin())
    for token in range(3):
        for pair in range(2):
            turned = torch.complex(x[token, :, pair], x[token, :, pair + 2]) * torch.polar(
                torch.tensor(1.0), angle[token, pair]
            )
            torch.testing.assert_close(found[token, :, pair], turned.real)
            torch.testing.assert_close(found[token, :, pair + 2], turned.imag)


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("rows", [1, 7, 130])
def test_linear_of_packed_weights(
    tmp_path: Path, rows: int, dtype: torch.dtype, *, bias: bool
) -> None:
    x, weight, shift = randn(rows, 48).to(dtype), randn(33, 48).to(dtype), randn(33).to(dtype)
    bench = Bench(tmp_path, {"m.weight": weight, "m.bias": shift}, dtype)
    matrix = bench.weights.matrix("m", bias=bias)
    assert (matrix.outputs, matrix.inputs) == (33, 48)
    packed = bench.weights.matrices[matrix.index].packed
    assert packed == (dtype == torch.bfloat16 and onednn_bfloat16())
    found = bench.ops.linear(x, matrix)
    assert found.dtype == dtype
    expected = x.float() @ weight.float().T + (shift.float() if bias else 0)
    scale = 1e-5 if dtype == torch.float32 else 1e-2
    torch.testing.assert_close(found.float(), expected, atol=scale * 30, rtol=scale)


def test_a_missing_tensor_is_named(tmp_path: Path) -> None:
    bench = Bench(tmp_path, {"m.weight": randn(2, 2)})
    with pytest.raises(ModelError, match=r"m\.bias"):
        bench.weights.matrix("m", bias=True)


def test_embed_rounds_its_scale_to_the_type(tmp_path: Path) -> None:
    bench = Bench(tmp_path, {"e.weight": torch.eye(3)}, torch.bfloat16)
    found = bench.ops.embed(bench.weights.table("e"), 25.298)
    assert found.tolist() == [[0.0, 0.0, 25.25], [25.25, 0.0, 0.0]]


def test_lm_head_bends_logits_only_where_asked(tmp_path: Path) -> None:
    bench = Bench(tmp_path, {"h.weight": torch.eye(2) * 10})
    matrix, hidden = bench.weights.matrix("h"), torch.tensor([[1.0, -5.0]])
    assert bench.ops.lm_head(hidden, matrix, None).tolist() == [[10.0, -50.0]]
    expected = 20 * torch.tanh(torch.tensor([[0.5, -2.5]]))
    torch.testing.assert_close(bench.ops.lm_head(hidden, matrix, 20.0), expected)


@pytest.mark.parametrize("normalise", [False, True])
def test_experts_one_token_at_a_time(tmp_path: Path, *, normalise: bool) -> None:
    x, router_logits = randn(9, 6), randn(9, 5)
    up, down = randn(5, 8, 6), randn(5, 6, 4)
    bench = Bench(tmp_path, {"up.weight": up, "down.weight": down})
    found = bench.ops.experts(
        x,
        router_logits,
        bench.weights.stack("up"),
        bench.weights.stack("down"),
        top_k=2,
        normalise=normalise,
        activation="silu",
    )
    for token in range(9):
        probs = torch.softmax(router_logits[token], dim=-1)
        best = probs.argsort(descending=True)[:2]
        total = probs[best].sum() if normalise else 1.0
        expected = torch.zeros(6)
        for expert in best.tolist():
            gate, rise = (up[expert] @ x[token]).chunk(2)
            inner = gate * torch.sigmoid(gate) * rise
            expected += probs[expert] / total * (down[expert] @ inner)
        torch.testing.assert_close(found[token], expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("normed", [False, True])
def test_attention_norms_turns_stores_and_looks_back(tmp_path: Path, *, normed: bool) -> None:
    bench = Bench(tmp_path, {"q.weight": randn(2), "k.weight": randn(2) + 1})
    weights, qkv = bench.weights, randn(2, 8)
    pair = (weights.vector("q"), weights.vector("k"))
    angles = np.outer(np.arange(9), [0.3, 0.3]).astype(np.float32)
    spec = AttentionSpec(
        layer=0,
        heads=2,
        kv_heads=1,
        head_dim=2,
        scale=0.7,
        window=None,
        rope=weights.rope(np.cos(angles), np.sin(angles)),
        norms=pair if normed else None,
        eps=0.1,
    )
    # Position 6 is what an earlier step left there; the others before it are zeros.
    bench.cache.keys[0][3, 0, 6] = torch.tensor([1.0, 2.0])
    bench.cache.values[0][3, 0, 6] = torch.tensor([-4.0, 5.0])
    found = bench.ops.attention(qkv, spec)
    parts = qkv.view(2, 4, 2).clone()
    if normed:
        parts[:, :2] = norm(parts[:, :2], weights.vectors[0], 0.1)
        parts[:, 2:3] = norm(parts[:, 2:3], weights.vectors[1], 0.1)
    positions = torch.tensor([7, 8])
    cos, sin = (table[positions] for table in weights.ropes[0])
    parts[:, :3] = rotate(parts[:, :3], cos, sin)
    keys, values = torch.zeros(9, 2), torch.zeros(9, 2)
    keys[6], values[6] = torch.tensor([1.0, 2.0]), torch.tensor([-4.0, 5.0])
    keys[7:], values[7:] = parts[:, 2], parts[:, 3]
    torch.testing.assert_close(bench.cache.keys[0][1, 0, 0], keys[8])
    for token in range(2):
        seen = slice(0, 8 + token)
        for head in range(2):
            probs = torch.softmax(keys[seen] @ parts[token, head] * 0.7, dim=0)
            expected = probs @ values[seen]
            torch.testing.assert_close(found[token, 2 * head : 2 * head + 2], expected)


def test_store_never_writes_what_is_not_finite(tmp_path: Path) -> None:
    bench = Bench(tmp_path, {})
    bad = torch.tensor([[[torch.nan, 1.0]], [[2.0, torch.inf]]])
    store(bad, bad, bench.cache, 0, bench.batch)
    assert bench.cache.keys[0][3, 0, 7].tolist() == [0.0, 1.0]
    assert bench.cache.values[0][1, 0, 0, 0] == 2.0
    assert torch.isfinite(bench.cache.values[0]).all()
