"""The reference backend: one device and number format, computed eagerly in plain PyTorch.

It is the oracle that other backends are tested against, and what runs where they cannot.
`ReferenceBackend` loads weights, allocates the KV cache and prepares each step's batch;
`ReferenceOps`, bound to a step and made anew for each (which costs nothing), computes a model's
operations. On a CPU in bfloat16 the matrices are packed for oneDNN once, at load. Knows no request,
no model family.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor
from torch.nn import functional as F

from headway.errors import ModelError
from headway.ops.protocol import (
    AttentionSpec,
    CacheShape,
    Floats,
    Ints,
    Matrix,
    Rope,
    Table,
    Vector,
)
from headway.ops.reference import paging
from headway.ops.reference.attention import Batch, KVCache, Scratch, SliceGroup, attend, store
from headway.ops.reference.paging import HostBatch
from headway.types.model import Activation


def onednn_bfloat16() -> bool:
    """Whether oneDNN multiplies bfloat16 on this processor at speed."""
    return torch._C._has_mkldnn and bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


class ReferenceBackend:
    """Weights, KV cache and steps; only the scratch space for gathered blocks outlives a step."""

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
        pieces = paging.cut_slices(host)
        repeats = num_heads // shape.num_kv_heads
        return Batch(
            tokens=self._to_device(host.tokens),
            positions=self._to_device(paging.positions(host)),
            slots=self._to_device(rows.ravel()),
            groups={
                window: tuple(
                    self._group(padded, shape, repeats)
                    for padded in paging.padded_batches(host, pieces, shape.block_size, window)
                )
                for window in dict.fromkeys(windows)
            },
        )

    def step(self, weights: ReferenceWeights, cache: KVCache, batch: Batch) -> ReferenceOps:
        """The operations of one step."""
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

    def _group(self, padded: paging.PaddedBatch, shape: CacheShape, repeats: int) -> SliceGroup:
        size, width = padded.queries.shape
        span = padded.visible.shape[2]
        mask = torch.zeros(padded.visible.shape, dtype=self._dtype, device=self._device)
        hidden = torch.from_numpy(~padded.visible).to(self._device)
        mask.masked_fill_(hidden, -torch.inf)
        if width > 1:
            mask = mask[:, :, None].expand(size, width, repeats, span).reshape(size, 1, -1, span)
        queries = padded.queries.ravel()
        kept = None if padded.valid.all() else np.flatnonzero(padded.valid)
        heads = np.arange(shape.num_kv_heads)[None, :, None]
        blocks = padded.blocks[:, None, :] * shape.num_kv_heads + heads
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


class ReferenceOps:
    """`Ops[Tensor]` of one step, computed at once over the step's batch and the KV cache."""

    def __init__(
        self, *, weights: ReferenceWeights, cache: KVCache, batch: Batch, scratch: Scratch
    ) -> None:
        self._weights = weights
        self._cache = cache
        self._batch = batch
        self._scratch = scratch
        self._rotations: dict[Rope, tuple[Tensor, Tensor]] = {}

    def embed(self, table: Table, scale: float) -> Tensor:
        rows = F.embedding(self._batch.tokens, self._weights.tables[table.index])
        return rows if scale == 1.0 else rows * torch.tensor(scale, dtype=rows.dtype)

    def norm(self, x: Tensor, weight: Vector, eps: float) -> Tensor:
        return norm(x, self._weights.vectors[weight.index], eps)

    def add(self, x: Tensor, y: Tensor) -> Tensor:
        return x + y

    def linear(self, x: Tensor, matrix: Matrix) -> Tensor:
        return linear(x, self._weights.matrices[matrix.index])

    def attention(self, qkv: Tensor, spec: AttentionSpec) -> Tensor:
        both = spec.heads + spec.kv_heads
        parts = qkv.view(len(qkv), both + spec.kv_heads, spec.head_dim)
        cos, sin = self._rotation(spec.rope)
        if spec.norms is None:
            turned = rotate(parts[:, :both], cos, sin)
            queries, keys = turned[:, : spec.heads], turned[:, spec.heads :]
        else:
            queries = self.norm(parts[:, : spec.heads], spec.norms[0], spec.eps)
            keys = self.norm(parts[:, spec.heads : both], spec.norms[1], spec.eps)
            queries, keys = rotate(queries, cos, sin), rotate(keys, cos, sin)
        store(keys, parts[:, both:], self._cache, spec.layer, self._batch)
        groups = self._batch.groups[spec.window]
        mixed = attend(queries, self._cache, spec.layer, groups, self._scratch, spec.scale)
        return mixed.flatten(1)

    def gate(self, x: Tensor, activation: Activation) -> Tensor:
        first, up = x.chunk(2, dim=-1)
        if activation == "silu":
            return F.silu(first) * up
        return F.gelu(first, approximate="tanh") * up

    def experts(
        self,
        x: Tensor,
        router_logits: Tensor,
        gate_up: Sequence[Matrix],
        down: Sequence[Matrix],
        *,
        top_k: int,
        normalise: bool,
        activation: Activation,
    ) -> Tensor:
        weights, experts = torch.softmax(router_logits.float(), dim=-1).topk(top_k, dim=-1)
        if normalise:
            weights = weights / weights.sum(-1, keepdim=True)
        # Sorted by expert, so that each expert multiplies all its tokens at once; every token's
        # outputs are then added in the order of its own router, whoever else is in the batch.
        order = experts.flatten().argsort(stable=True)
        counts = torch.bincount(experts.flatten(), minlength=len(gate_up)).tolist()
        parts = torch.split(x.index_select(0, order // top_k), counts)
        outputs = torch.cat(
            [
                self.linear(self.gate(self.linear(part, first), activation), second)
                for part, first, second in zip(parts, gate_up, down, strict=True)
                if len(part)
            ]
        )
        ordered = torch.empty_like(outputs).index_copy_(0, order, outputs)
        weighted = ordered.view(len(x), top_k, -1) * weights.to(x.dtype)[:, :, None]
        return weighted.sum(1)

    def lm_head(self, hidden: Tensor, matrix: Matrix, softcap: float | None) -> Tensor:
        logits = self.linear(hidden, matrix)
        return logits if softcap is None else (logits.float() / softcap).tanh() * softcap

    def _rotation(self, rope: Rope) -> tuple[Tensor, Tensor]:
        """Cosines and sines [T, head_dim] of the step's positions, looked up once."""
        found = self._rotations.get(rope)
        if found is None:
            cos, sin = self._weights.ropes[rope.index]
            positions = self._batch.positions
            found = (cos.index_select(0, positions), sin.index_select(0, positions))
            self._rotations[rope] = found
        return found


def norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """Root-mean-square norm over the last axis, computed in float32."""
    wide = x.float()
    factor = torch.rsqrt(wide.pow(2).mean(-1, keepdim=True).add_(eps))
    return (wide * factor * weight).to(x.dtype)


def linear(x: Tensor, matrix: LinearWeight) -> Tensor:
    """x [T, in] times the matrix: [T, out]."""
    if not matrix.packed:
        return F.linear(x, matrix.weight, matrix.bias)
    product: Tensor = torch.ops.mkldnn._linear_pointwise(
        x, matrix.weight, matrix.bias, "none", [], ""
    )
    return product


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotary embedding of x [T, heads, head_dim]; cos and sin are float32 [T, head_dim]."""
    wide = x.float()
    first, second = wide.chunk(2, dim=-1)
    turned = torch.cat((-second, first), dim=-1)
    return (wide * cos[:, None]).addcmul_(turned, sin[:, None]).to(x.dtype)


# Rows for which oneDNN lays packed weights out: about a decode step of a full batch.
_PACK_ROWS = 128


@dataclass(frozen=True, slots=True, kw_only=True)
class LinearWeight:
    """A matrix's weight [out, in] in the layout that `linear` wants, and its bias [out]."""

    weight: Tensor
    bias: Tensor | None
    packed: bool
    """The weight is in a library's own layout and may only be handed back to it."""


class ReferenceWeights:
    """`Weights` of one file, brought to the backend's device and type; a handle is an index.

    The file is memory-mapped, so what is packed into another layout is read once and never held
    twice, and what is used as it stands is never copied.
    """

    def __init__(
        self, path: Path, *, device: torch.device, dtype: torch.dtype, packs: bool
    ) -> None:
        self.tables: list[Tensor] = []
        self.matrices: list[LinearWeight] = []
        self.vectors: list[Tensor] = []
        self.ropes: list[tuple[Tensor, Tensor]] = []
        self._path, self._device, self._dtype, self._packs = path, device, dtype, packs
        try:
            self._file = _open(path)
        except (OSError, SafetensorError) as error:
            raise ModelError(f"{path}: cannot be read as safetensors: {error}") from error
        self._names = frozenset(self._file.keys())

    def table(self, name: str) -> Table:
        self.tables.append(self._read(f"{name}.weight").to(self._device, self._dtype))
        return Table(index=len(self.tables) - 1, width=self.tables[-1].shape[1])

    def matrix(self, name: str, *, bias: bool = False) -> Matrix:
        return self._add(self._read(f"{name}.weight"), self._read(f"{name}.bias") if bias else None)

    def stack(self, name: str) -> tuple[Matrix, ...]:
        return tuple(self._add(part, None) for part in self._read(f"{name}.weight"))

    def vector(self, name: str) -> Vector:
        self.vectors.append(self._read(f"{name}.weight").float().to(self._device))
        return Vector(index=len(self.vectors) - 1, size=len(self.vectors[-1]))

    def rope(self, cos: Floats, sin: Floats) -> Rope:
        pair = (torch.from_numpy(cos).to(self._device), torch.from_numpy(sin).to(self._device))
        self.ropes.append(pair)
        return Rope(index=len(self.ropes) - 1)

    def _add(self, weight: Tensor, bias: Tensor | None) -> Matrix:
        outputs, inputs = weight.shape
        self.matrices.append(
            pack(
                weight.to(self._device, self._dtype),
                None if bias is None else bias.to(self._device, self._dtype),
                packs=self._packs,
            )
        )
        return Matrix(index=len(self.matrices) - 1, outputs=outputs, inputs=inputs)

    def _read(self, name: str) -> Tensor:
        if name not in self._names:
            raise ModelError(f"{self._path}: tensor {name!r} is missing")
        tensor: Tensor = self._file.get_tensor(name)
        return tensor


def pack(weight: Tensor, bias: Tensor | None, *, packs: bool) -> LinearWeight:
    """Bring a weight [out, in] into the layout that `linear` wants: oneDNN's own with `packs`."""
    if packs:
        weight = torch.ops.mkldnn._reorder_linear_weight(weight.contiguous(), _PACK_ROWS)
    return LinearWeight(weight=weight, bias=bias, packed=packs)


def _open(path: Path) -> Any:
    return safe_open(path, framework="pt")
