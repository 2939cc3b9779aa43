"""The reference's other operations against formulas written out."""

from __future__ import annotations

import pytest
import torch

from headway.ops import CacheShape, HostBatch, ReferenceOps
from headway.ops.reference import onednn_bfloat16

CPU = torch.device("cpu")
OPS = ReferenceOps(device=CPU, dtype=torch.float32)


def randn(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(sum(shape)))


def test_norm_and_add_norm() -> None:
    x, residual, weight = randn(5, 12), randn(5, 12) * 2, randn(12)
    both = x + residual
    expected = both / (both.pow(2).mean(-1, keepdim=True) + 0.5).sqrt() * weight
    found, total = OPS.add_norm(x, residual, weight, 0.5)
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(total, both)


def test_rotate_turns_pairs_of_halves() -> None:
    x, angle = randn(3, 2, 4), torch.tensor([[0.1, 0.2], [1.0, 2.0], [3.0, -1.0]])
    wide = torch.cat((angle, angle), dim=-1)
    found = OPS.rotate(x, wide.cos(), wide.sin())
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
def test_linear_of_packed_weights(rows: int, dtype: torch.dtype, *, bias: bool) -> None:
    ops = ReferenceOps(device=CPU, dtype=dtype)
    x, weight = randn(rows, 48).to(dtype), randn(33, 48).to(dtype)
    shift = randn(33).to(dtype) if bias else None
    expected = x.float() @ weight.float().T + (0 if shift is None else shift.float())
    matrix = ops.pack(weight, shift)
    assert matrix.packed == (dtype == torch.bfloat16 and onednn_bfloat16())
    found = ops.linear(x, matrix)
    assert found.dtype == dtype
    scale = 1e-5 if dtype == torch.float32 else 1e-2
    torch.testing.assert_close(found.float(), expected, atol=scale * 30, rtol=scale)


def test_embed_rounds_its_scale_to_the_type() -> None:
    ops = ReferenceOps(device=CPU, dtype=torch.bfloat16)
    table = torch.eye(3, dtype=torch.bfloat16)
    found = ops.embed(torch.tensor([2]), table, 25.298)
    assert found.tolist() == [[0.0, 0.0, 25.25]]


@pytest.mark.parametrize("normalise", [False, True])
def test_experts_one_token_at_a_time(*, normalise: bool) -> None:
    x, scores = randn(9, 6), randn(9, 5)
    up = [OPS.pack(randn(8, 6) + n) for n in range(5)]
    down = [OPS.pack(randn(6, 4) - n) for n in range(5)]
    found = OPS.experts(x, scores, up, down, chosen=2, normalise=normalise, activation="silu")
    for token in range(9):
        shares = torch.softmax(scores[token], dim=-1)
        best = shares.argsort(descending=True)[:2]
        total = shares[best].sum() if normalise else 1.0
        expected = torch.zeros(6)
        for expert in best.tolist():
            gate, rise = (up[expert].weight @ x[token]).chunk(2)
            inner = gate * torch.sigmoid(gate) * rise
            expected += shares[expert] / total * (down[expert].weight @ inner)
        torch.testing.assert_close(found[token], expected, atol=1e-4, rtol=1e-4)


def test_store_never_writes_what_is_not_finite() -> None:
    shape = CacheShape(num_layers=1, num_blocks=4, block_size=8, num_kv_heads=1, head_dim=2)
    cache = OPS.allocate(shape)
    host = HostBatch(
        tokens=torch.zeros(2).long().numpy(),
        starts=torch.tensor([7]).numpy(),
        counts=torch.tensor([2]).numpy(),
        tables=torch.tensor([[3, 1]]).numpy(),
    )
    batch = OPS.batch(host, shape, [None], 1)
    bad = torch.tensor([[[torch.nan, 1.0]], [[2.0, torch.inf]]])
    OPS.store(bad, bad, cache, 0, batch)
    assert cache.keys[0][3, 0, 7].tolist() == [0.0, 1.0]
    assert cache.values[0][1, 0, 0, 0] == 2.0
    assert torch.isfinite(cache.values[0]).all()
