"""Four-bit blocks of GGUF files come out as they are stored, in the canonical order of rows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
from gguf import GGMLQuantizationType as Kind

from headway.checkpoint.gguf.file import four_bit_blocks
from headway.checkpoint.gguf.model import open_gguf_checkpoint
from headway.checkpoint.layout import Piece
from headway.checkpoint.packing import FourBitBlocks
from tests.checkpoint.test_gguf import HEADS, HIDDEN, INNER, SIZE, write


def weights(blocks: FourBitBlocks) -> Any:
    """scale * q + minimum in float32, as decoders of the format compute it."""
    groups = blocks.q.reshape(*blocks.scale.shape, 32).astype(np.float32)
    scale, minimum = (part.astype(np.float32)[..., None] for part in (blocks.scale, blocks.minimum))
    return (groups * scale + minimum).reshape(blocks.q.shape)


@pytest.mark.parametrize("kind", [Kind.Q4_0, Kind.Q4_1])
def test_blocks_of_one_scale_are_exact(kind: Kind) -> None:
    values = np.random.default_rng(1).standard_normal((5, 96)).astype(np.float32)
    raw = gguf.quants.quantize(values, kind)
    found = four_bit_blocks(raw, kind)
    assert found.q.dtype == np.uint8
    assert found.scale.dtype == found.minimum.dtype == np.float16
    assert found.q.max() <= 15
    np.testing.assert_array_equal(weights(found), gguf.quants.dequantize(raw, kind))


def test_blocks_with_scales_of_scales_differ_by_their_rounding_alone() -> None:
    random = np.random.default_rng(2)
    raw = random.integers(0, 256, (3, 2 * 144), dtype=np.uint8)
    halves = random.uniform(0.001, 0.01, (3, 2, 2)).astype(np.float16)
    raw.reshape(3, 2, 144)[:, :, :4] = halves.view(np.uint8)
    found = four_bit_blocks(raw, Kind.Q4_K)
    assert found.q.shape == (3, 512)
    assert found.scale.shape == found.minimum.shape == (3, 16)
    # Every scale and minimum moves by 2^-11 of itself at most.
    groups = found.scale.astype(np.float32)[..., None] * found.q.reshape(3, 16, 32)
    bound = (np.abs(groups) + np.abs(found.minimum.astype(np.float32)[..., None])) / 2**11
    off = weights(found) - gguf.quants.dequantize(raw, Kind.Q4_K)
    assert (np.abs(off).reshape(3, 16, 32) <= bound * 1.01 + 1e-7).all()


@pytest.mark.parametrize("kind", [Kind.Q4_0, Kind.Q4_1])
@pytest.mark.parametrize("architecture", ["llama", "qwen3"])
def test_a_piece_read_as_blocks_is_the_piece(kind: Kind, architecture: str, tmp_path: Path) -> None:
    write(tmp_path / "m.gguf", architecture, kind=kind)
    checkpoint = open_gguf_checkpoint(tmp_path / "m.gguf")
    for piece in (
        Piece(role="q", shape=(HEADS * SIZE, HIDDEN), layer=1, heads=HEADS),
        Piece(role="down", shape=(HIDDEN, INNER), layer=0),
    ):
        blocks = checkpoint.read_blocks(piece)
        assert blocks is not None
        found = np.concatenate([weights(part) for part in blocks])
        np.testing.assert_array_equal(found, np.concatenate(list(checkpoint.read(piece))))
        assert checkpoint.quantised(piece)


@pytest.mark.parametrize(
    ("kind", "quantised"), [(Kind.F32, False), (Kind.BF16, False), (Kind.Q8_0, True)]
)
def test_what_has_no_four_bit_blocks(kind: Kind, quantised: bool, tmp_path: Path) -> None:
    write(tmp_path / "m.gguf", kind=kind)
    checkpoint = open_gguf_checkpoint(tmp_path / "m.gguf")
    piece = Piece(role="down", shape=(HIDDEN, INNER), layer=0)
    assert checkpoint.read_blocks(piece) is None
    assert checkpoint.quantised(piece) == quantised


def test_blocks_of_one_expert(tmp_path: Path) -> None:
    keys = {"expert_count": 3, "expert_used_count": 2, "expert_feed_forward_length": 32}
    write(tmp_path / "m.gguf", "qwen3moe", keys=keys, kind=Kind.Q4_1)
    checkpoint = open_gguf_checkpoint(tmp_path / "m.gguf")
    piece = Piece(role="up", shape=(32, HIDDEN), layer=1, expert=2)
    blocks = checkpoint.read_blocks(piece)
    assert blocks is not None
    (found,) = blocks
    np.testing.assert_array_equal(weights(found), next(checkpoint.read(piece)))
