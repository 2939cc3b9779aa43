"""The reference backend: plain PyTorch, on any device and in any floating type.

It is the oracle that other backends are tested against, and what runs where they cannot. On a CPU
in bfloat16 the matrices are packed for oneDNN once, at load. Attention gathers whole blocks into
padded batches (see `paging`): one key-value head's query heads are the rows of one product.
Knows no request, no model family.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from headway.checkpoint.config import Activation
from headway.ops import paging
from headway.ops.protocol import Batch, Cache, CacheShape, Group, HostBatch, Ints, Matrix

# Rows for which oneDNN lays packed weights out: about a decode step of a full batch.
_PACK_ROWS = 128


def onednn_bfloat16() -> bool:
    """Whether oneDNN multiplies bfloat16 on this processor at speed."""
    return torch._C._has_mkldnn and bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


class ReferenceOps:
    """`Ops` in plain PyTorch. Only the scratch space for gathered blocks is kept between calls."""

    def __init__(self, *, device: torch.device, dtype: torch.dtype) -> None:
        self._device = device
        self._dtype = dtype
        self._packs = device.type == "cpu" and dtype == torch.bfloat16 and onednn_bfloat16()
        self._scratch = (torch.empty(0), torch.empty(0))

    @property
    def name(self) -> str:
        return "reference (oneDNN)" if self._packs else "reference (PyTorch)"

    @property
    def device(self) -> torch.device:
        return self._device

    @property
    def dtype(self) -> torch.dtype:
        return self._dtype

    def pack(self, weight: Tensor, bias: Tensor | None = None) -> Matrix:
        weight = weight.to(self._device, self._dtype)
        bias = None if bias is None else bias.to(self._device, self._dtype)
        if self._packs:
            weight = torch.ops.mkldnn._reorder_linear_weight(weight.contiguous(), _PACK_ROWS)
        return Matrix(weight=weight, bias=bias, packed=self._packs)

    def allocate(self, shape: CacheShape) -> Cache:
        size = (shape.num_blocks, shape.num_kv_heads, shape.block_size, shape.head_dim)
        layers = range(shape.num_layers)
        return Cache(
            shape=shape,
            keys=tuple(self._zeros(size) for _ in layers),
            values=tuple(self._zeros(size) for _ in layers),
        )

    def batch(
        self, host: HostBatch, shape: CacheShape, windows: Sequence[int | None], num_heads: int
    ) -> Batch:
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

    def embed(self, tokens: Tensor, table: Tensor, scale: float) -> Tensor:
        rows = F.embedding(tokens, table)
        return rows if scale == 1.0 else rows * torch.tensor(scale, dtype=self._dtype)

    def norm(self, x: Tensor, weight: Tensor, eps: float) -> Tensor:
        wide = x.float()
        factor = torch.rsqrt(wide.pow(2).mean(-1, keepdim=True).add_(eps))
        return (wide * factor * weight).to(x.dtype)

    def add_norm(
        self, x: Tensor, residual: Tensor, weight: Tensor, eps: float
    ) -> tuple[Tensor, Tensor]:
        total = x + residual
        return self.norm(total, weight, eps), total

    def linear(self, x: Tensor, matrix: Matrix) -> Tensor:
        if not matrix.packed:
            return F.linear(x, matrix.weight, matrix.bias)
        product: Tensor = torch.ops.mkldnn._linear_pointwise(
            x, matrix.weight, matrix.bias, "none", [], ""
        )
        return product

    def rotate(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        wide = x.float()
        first, second = wide.chunk(2, dim=-1)
        turned = torch.cat((-second, first), dim=-1)
        return (wide * cos[:, None]).addcmul_(turned, sin[:, None]).to(x.dtype)

    def store(self, keys: Tensor, values: Tensor, cache: Cache, layer: int, batch: Batch) -> None:
        # Blocks are reused, and a masked position still takes part in products: as zero times
        # whatever is stored. So nothing that is not finite may ever be stored.
        size = cache.shape.head_dim
        for new, stored in ((keys, cache.keys[layer]), (values, cache.values[layer])):
            finite = torch.nan_to_num(new).reshape(-1, size)
            stored.view(-1, size).index_copy_(0, batch.slots, finite)

    def attention(
        self,
        queries: Tensor,
        cache: Cache,
        layer: int,
        batch: Batch,
        *,
        scale: float,
        window: int | None,
    ) -> Tensor:
        out = torch.empty_like(queries)
        for group in batch.groups[window]:
            keys = self._gather(cache.keys[layer], group, 0)
            values = self._gather(cache.values[layer], group, 1)
            asked = queries.index_select(0, group.queries)
            if group.width == 1:
                answers = _attend_one(asked, keys, values, group, scale)
            else:
                answers = _attend_many(asked, keys, values, group, scale)
            if group.kept is not None:
                answers = answers.index_select(0, group.kept)
            out.index_copy_(0, group.rows, answers)
        return out.flatten(1)

    def gate(self, x: Tensor, activation: Activation) -> Tensor:
        gate, up = x.chunk(2, dim=-1)
        if activation == "silu":
            return F.silu(gate) * up
        return F.gelu(gate, approximate="tanh") * up

    def experts(
        self,
        x: Tensor,
        scores: Tensor,
        gate_up: Sequence[Matrix],
        down: Sequence[Matrix],
        *,
        chosen: int,
        normalise: bool,
        activation: Activation,
    ) -> Tensor:
        weights, experts = torch.softmax(scores.float(), dim=-1).topk(chosen, dim=-1)
        if normalise:
            weights = weights / weights.sum(-1, keepdim=True)
        # Sorted by expert, so that each expert multiplies all its tokens at once; every token's
        # answers are then added in the order of its own choices, whoever else is in the batch.
        order = experts.flatten().argsort(stable=True)
        counts = torch.bincount(experts.flatten(), minlength=len(gate_up)).tolist()
        parts = torch.split(x.index_select(0, order // chosen), counts)
        answers = torch.cat(
            [
                self.linear(self.gate(self.linear(part, first), activation), second)
                for part, first, second in zip(parts, gate_up, down, strict=True)
                if len(part)
            ]
        )
        ordered = torch.empty_like(answers).index_copy_(0, order, answers)
        shares = ordered.view(len(x), chosen, -1) * weights.to(x.dtype)[:, :, None]
        return shares.sum(1)

    def _zeros(self, size: tuple[int, ...]) -> Tensor:
        if self._device.type != "cpu":
            return torch.zeros(size, dtype=self._dtype, device=self._device)
        # Zero pages of the operating system, which take memory only once they are written.
        bytes_each = self._dtype.itemsize
        raw = np.zeros((*size[:-1], size[-1] * bytes_each), dtype=np.uint8)
        return torch.from_numpy(raw).view(self._dtype)

    def _to_device(self, array: Ints) -> Tensor:
        return torch.from_numpy(array).to(self._device, non_blocking=True)

    def _group(self, layout: paging.Layout, shape: CacheShape, repeats: int) -> Group:
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
        return Group(
            size=size,
            width=width,
            span=span,
            queries=self._to_device(queries),
            kept=None if kept is None else self._to_device(kept),
            rows=self._to_device(queries if kept is None else queries[kept]),
            blocks=self._to_device(blocks.ravel()),
            mask=mask,
        )

    def _gather(self, stored: Tensor, group: Group, which: int) -> Tensor:
        """A group's blocks as [B, kv heads, S, head_dim], in scratch space."""
        _, heads, block_size, head_dim = stored.shape
        rows, columns = len(group.blocks), block_size * head_dim
        if len(self._scratch[which]) < rows * columns:
            fresh = torch.empty(rows * columns, dtype=self._dtype, device=self._device)
            other = self._scratch[1 - which]
            self._scratch = (fresh, other) if which == 0 else (other, fresh)
        out = self._scratch[which][: rows * columns].view(rows, columns)
        torch.index_select(stored.view(-1, columns), 0, group.blocks, out=out)
        return out.view(group.size, heads, group.span, head_dim)


def _attend_one(asked: Tensor, keys: Tensor, values: Tensor, group: Group, scale: float) -> Tensor:
    """Attention of one query a sequence, [B, heads, head_dim]."""
    size, heads, span, head_dim = keys.shape
    rows = asked.reshape(size * heads, -1, head_dim)
    scores = torch.bmm(rows, keys.view(size * heads, span, head_dim).transpose(1, 2))
    wide = scores.float().view(size, -1, span).mul_(scale).add_(group.mask)
    shares = torch.softmax(wide, dim=-1).to(asked.dtype).view(scores.shape)
    answers = torch.bmm(shares, values.view(size * heads, span, head_dim))
    return answers.view(size, -1, head_dim)


def _attend_many(asked: Tensor, keys: Tensor, values: Tensor, group: Group, scale: float) -> Tensor:
    """Attention of Q queries a sequence, [B * Q, heads, head_dim]."""
    size, heads, _, head_dim = keys.shape
    rows = asked.view(size, group.width, heads, -1, head_dim).transpose(1, 2)
    repeats = rows.shape[3]
    answers = F.scaled_dot_product_attention(
        rows.reshape(size, heads, -1, head_dim), keys, values, attn_mask=group.mask, scale=scale
    )
    answers = answers.view(size, heads, group.width, repeats, head_dim).transpose(1, 2)
    return answers.reshape(size * group.width, heads * repeats, head_dim)
