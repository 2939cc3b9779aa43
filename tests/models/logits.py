"""Logits of every token of some texts, from one forward pass of either backend."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from headway.checkpoint import Prepared
from headway.checkpoint.prepared import WEIGHTS
from headway.models import load_model
from headway.native import abi
from headway.ops import CacheShape
from headway.ops.native import address
from headway.ops.reference import HostBatch, ReferenceBackend
from headway.runner.native import NativeRunner

Texts = Sequence[Sequence[int]]


def whole(texts: Texts, block_size: int) -> HostBatch:
    """A step of all texts from their beginnings, over blocks in no order."""
    width = max(len(text) for text in texts) // block_size + 1
    tables = np.random.default_rng(0).permutation(width * len(texts)).reshape(-1, width)
    return HostBatch(
        tokens=np.array([token for text in texts for token in text]),
        starts=np.zeros(len(texts), dtype=np.int64),
        counts=np.array([len(text) for text in texts]),
        tables=tables,
    )


@torch.inference_mode()
def reference_logits(prepared: Prepared, texts: Texts, block_size: int) -> torch.Tensor:
    """[tokens, vocabulary], in float32."""
    host = whole(texts, block_size)
    backend = ReferenceBackend(device=torch.device("cpu"), dtype=torch.float32)
    config = prepared.config
    weights = backend.weights(prepared.folder / WEIGHTS)
    model = load_model(config, weights, length=128)
    shape = CacheShape(
        num_layers=config.num_layers,
        num_blocks=host.tables.size,
        block_size=block_size,
        num_kv_heads=config.num_kv_heads,
        head_dim=config.head_dim,
    )
    batch = backend.batch(host, shape, model.windows, config.num_heads)
    ops = backend.step(weights, backend.allocate(shape), batch)
    return model.logits(ops, model.forward(ops))


def native_logits(runner: NativeRunner, texts: Texts, block_size: int) -> torch.Tensor:
    """[tokens, vocabulary], in the runner's weight format."""
    host = whole(texts, block_size)
    has_nan = np.ones(len(host.counts), dtype=np.uint8)
    runner._program.run(
        abi.HwStep(
            num_tokens=len(host.tokens),
            num_slices=len(host.counts),
            tokens=address(host.tokens),
            starts=address(host.starts),
            counts=address(host.counts),
            block_tables=address(host.tables),
            table_width=host.tables.shape[1],
            has_nan=address(has_nan),
            all_rows=True,
        )
    )
    assert not has_nan.any()
    return torch.from_numpy(runner.logits(len(host.tokens)))
