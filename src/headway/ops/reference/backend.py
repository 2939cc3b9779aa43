"""One device and one number format in plain PyTorch: weights, cache, and the start of each step.

It is the oracle that other backends are tested against, and what runs where they cannot. On a CPU
in bfloat16 the matrices are packed for oneDNN once, at load. Knows no request, no model family.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from headway.ops.protocol import CacheShape
from headway.ops.reference import paging
from headway.ops.reference.attention import Batch, KVCache, Scratch, SliceGroup
from headway.ops.reference.ops import ReferenceOps
from headway.ops.reference.paging import HostBatch, Ints
from headway.ops.reference.weights import ReferenceWeights


def onednn_bfloat16() -> bool:
    """Whether oneDNN multiplies bfloat16 on this processor at speed."""
    return torch._C._has_mkldnn and bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


class ReferenceBackend:
    """Only the scratch space for gathered blocks is kept between steps."""

    def __init__(self, *, device: torch.device, dtype: torch.dtype) -> None:
        self._device = device
        self._dtype = dtype
        self._packs = device.type == "cpu" and dtype == torch.bfloat16 and onednn_bfloat16()
        self._scratch = Scratch(device=device, dtype=dtype)

    @property
    def name(self) -> str:
        """The backend and what runs its matrix products, for people to read."""
        return "reference (oneDNN)" if self._packs else "reference (PyTorch)"

    def weights(self, path: Path) -> ReferenceWeights:
        """The tensors of a `weights.safetensors`; `ModelError` where it cannot be read."""
        return ReferenceWeights(path, device=self._device, dtype=self._dtype, packs=self._packs)

    def allocate(self, shape: CacheShape) -> KVCache:
        """A KV cache whose memory is touched only as it is used."""
        size = (shape.num_blocks, shape.num_kv_heads, shape.block_size, shape.head_dim)
        layers = range(shape.num_layers)
        return KVCache(
            shape=shape,
            keys=tuple(self._zeros(size) for _ in layers),
            values=tuple(self._zeros(size) for _ in layers),
        )

    def batch(
        self, host: HostBatch, shape: CacheShape, windows: Sequence[int | None], num_heads: int
    ) -> Batch:
        """Bring a step to the device and work out what all layers share."""
        heads = np.arange(shape.num_kv_heads)
        block, offset = paging.slots(host, shape.block_size)
        rows = (block[:, None] * shape.num_kv_heads + heads) * shape.block_size + offset[:, None]
        pieces = paging.cut(host)
        repeats = num_heads // shape.num_kv_heads
        return Batch(
            tokens=self._to_device(host.tokens),
            positions=self._to_device(paging.positions(host)),
            slots=self._to_device(rows.ravel()),
            groups={
                window: tuple(
                    self._group(layout, shape, repeats)
                    for layout in paging.layouts(host, pieces, shape.block_size, window)
                )
                for window in dict.fromkeys(windows)
            },
        )

    def step(self, weights: ReferenceWeights, cache: KVCache, batch: Batch) -> ReferenceOps:
        """The words of one step."""
        return ReferenceOps(weights=weights, cache=cache, batch=batch, scratch=self._scratch)

    def _zeros(self, size: tuple[int, ...]) -> Tensor:
        if self._device.type != "cpu":
            return torch.zeros(size, dtype=self._dtype, device=self._device)
        # Zero pages of the operating system, which take memory only once they are written.
        bytes_each = self._dtype.itemsize
        raw = np.zeros((*size[:-1], size[-1] * bytes_each), dtype=np.uint8)
        return torch.from_numpy(raw).view(self._dtype)

    def _to_device(self, array: Ints) -> Tensor:
        return torch.from_numpy(array).to(self._device, non_blocking=True)

    def _group(self, layout: paging.Layout, shape: CacheShape, repeats: int) -> SliceGroup:
        size, width = layout.queries.shape
        span = layout.visible.shape[2]
        mask = torch.zeros(layout.visible.shape, dtype=self._dtype, device=self._device)
        hidden = torch.from_numpy(~layout.visible).to(self._device)
        mask.masked_fill_(hidden, -torch.inf)
        if width > 1:
            mask = mask[:, :, None].expand(size, width, repeats, span).reshape(size, 1, -1, span)
        queries, padded = layout.queries.ravel(), not layout.valid.all()
        kept = np.flatnonzero(layout.valid) if padded else None
        heads = np.arange(shape.num_kv_heads)[None, :, None]
        blocks = layout.blocks[:, None, :] * shape.num_kv_heads + heads
        return SliceGroup(
            size=size,
            width=width,
            span=span,
            queries=self._to_device(queries),
            kept=None if kept is None else self._to_device(kept),
            rows=self._to_device(queries if kept is None else queries[kept]),
            blocks=self._to_device(blocks.ravel()),
            mask=mask,
        )
