"""Attention as a part of programs: sequences of several lengths in one step, against numpy.

What the kernels themselves promise for every shape is tested in `native/tests/attention.cpp`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest

from headway.native import abi, available, load
from tests.native.programs import Floats, Ints, Recording, compiled
from tests.native.test_linear import ISAS

pytestmark = pytest.mark.skipif(not available(), reason="the native library is not built")

HEADS, KV_HEADS, SIZE, BLOCK, LAYERS = 6, 2, 24, 16, 2
WIDTH = (HEADS + 2 * KV_HEADS) * SIZE
EPS = 1e-6
SCALE = 0.3
LENGTHS = np.array([70, 1, 33])
TABLES = np.array([[4, 0, 7, 2, 8], [9, 0, 0, 0, 0], [1, 3, 5, 0, 0]])


@dataclass(frozen=True, slots=True, kw_only=True)
class Layer:
    """What one layer adds to the heads that come from its matrix."""

    norms: tuple[Floats, Floats] | None
    cos: Floats
    sin: Floats
    window: int


def numbers(seed: int, *shape: int) -> Floats:
    return np.random.default_rng(seed).uniform(-2, 2, shape).astype(np.float32)


def layer(*, norms: bool, window: int) -> Layer:
    steps = 1000.0 ** -(np.arange(SIZE // 2) / (SIZE // 2))
    angles = np.tile(np.arange(LENGTHS.max())[:, None] * steps, 2)
    weights = (numbers(8, SIZE), numbers(9, SIZE)) if norms else None
    return Layer(
        norms=weights,
        cos=np.cos(angles).astype(np.float32),
        sin=np.sin(angles).astype(np.float32),
        window=window,
    )


def turned(x: Floats, weight: Floats | None, plan: Layer) -> Floats:
    """Heads [length, heads, SIZE] with norm and position."""
    y: Floats = x.astype(np.float64)
    if weight is not None:
        y = y / np.sqrt((y * y).mean(-1, keepdims=True) + EPS) * weight
    first, second = np.split(y, 2, axis=-1)
    cos, sin = plan.cos[: len(x), None], plan.sin[: len(x), None]
    return np.asarray(y * cos + np.concatenate((-second, first), axis=-1) * sin)


def expected(rows: Floats, plan: Layer) -> Floats:
    """The answers of one sequence [length, HEADS * SIZE], from rows [length, WIDTH]."""
    heads = rows.reshape(len(rows), -1, SIZE)
    weights = plan.norms or (None, None)
    queries = turned(heads[:, :HEADS], weights[0], plan)
    keys = turned(heads[:, HEADS : HEADS + KV_HEADS], weights[1], plan)
    group = HEADS // KV_HEADS
    keys, values = keys.repeat(group, axis=1), heads[:, -KV_HEADS:].repeat(group, axis=1)
    logits = np.einsum("qhd,khd->hqk", queries, keys) * SCALE
    age = np.arange(len(rows))[:, None] - np.arange(len(rows))
    hidden = (age < 0) | ((age >= plan.window) if plan.window else False)
    logits[:, hidden] = -np.inf
    shares = np.exp(logits - logits.max(-1, keepdims=True))
    shares /= shares.sum(-1, keepdims=True)
    return np.asarray(np.einsum("hqk,khd->qhd", shares, values).reshape(len(rows), -1))


def record(rows: Floats, plans: list[Layer]) -> tuple[Recording, list[int]]:
    """Layers of attention, all of the same rows, and the buffers of their answers."""
    recording = Recording()
    given = recording.rows(rows)
    queries, outs = recording.buffer(HEADS * SIZE), []
    shape = {"heads": HEADS, "kv_heads": KV_HEADS, "head_dim": SIZE}
    for number, plan in enumerate(plans):
        addresses = [recording.hold(norm) for norm in plan.norms] if plan.norms else [None, None]
        recording.op(
            abi.HwKind.ROPE,
            in_=given,
            out=queries,
            layer=number,
            weight=addresses[0],
            weight2=addresses[1],
            eps=EPS,
            cos=recording.hold(plan.cos),
            sin=recording.hold(plan.sin),
            **shape,
        )
        outs.append(recording.buffer(HEADS * SIZE))
        recording.op(
            abi.HwKind.ATTENTION,
            in_=queries,
            out=outs[-1],
            layer=number,
            window=plan.window,
            scale=SCALE,
            **shape,
        )
    recording.lm_head(outs[-1])
    return recording, outs


def cache_of(kind: abi.CacheKind) -> abi.HwCache:
    return abi.HwCache(
        kind=kind,
        num_layers=LAYERS,
        num_blocks=10,
        block_size=BLOCK,
        kv_heads=KV_HEADS,
        head_dim=SIZE,
    )


def run(
    rows: Floats, plans: list[Layer], cuts: list[Ints], isa: str, kind: abi.CacheKind
) -> Floats:
    """Answers [layer, row, HEADS * SIZE] of sequences done up to each of `cuts`, step by step."""
    first = np.cumsum(LENGTHS) - LENGTHS
    recording, outs = record(rows, plans)
    answers = np.full((len(plans), len(rows), HEADS * SIZE), np.nan, np.float32)
    done = np.zeros(len(LENGTHS), np.int64)
    with compiled(recording, isa, 2, cache_of(kind)) as program:
        for cut in cuts:
            some = np.flatnonzero(cut > done)
            parts = [np.arange(first[n] + done[n], first[n] + cut[n]) for n in some]
            tokens = np.concatenate(parts)
            program.step(tokens, done[some], (cut - done)[some], TABLES[some])
            for number, out in enumerate(outs):
                answers[number, tokens] = program.read(out)
            done = cut
    return answers


PLANS = [layer(norms=True, window=0), layer(norms=False, window=20)]
# Stored keys and values are within 1/256 or 1/254 of the largest of their head.
TOLERANCES = {abi.CacheKind.FLOAT32: 1e-5, abi.CacheKind.BFLOAT16: 0.04, abi.CacheKind.INT8: 0.08}


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("kind", list(abi.CacheKind))
def test_answers_are_those_of_numpy(kind: abi.CacheKind, isa: str) -> None:
    rows = numbers(3, int(LENGTHS.sum()), WIDTH)
    answers = run(rows, PLANS, [LENGTHS], isa, kind)
    for number, plan in enumerate(PLANS):
        parts = np.split(rows, np.cumsum(LENGTHS)[:-1])
        right = np.concatenate([expected(part, plan) for part in parts])
        assert np.abs(answers[number] - right).max() < TOLERANCES[kind]


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("kind", list(abi.CacheKind))
def test_answers_have_the_same_bits_however_prompts_are_cut(kind: abi.CacheKind, isa: str) -> None:
    rows = numbers(4, int(LENGTHS.sum()), WIDTH)
    cuts = [np.array(cut) for cut in ([3, 0, 0], [3, 1, 16], [64, 1, 17], [65, 1, 33], [70, 1, 33])]
    whole = run(rows, PLANS, [LENGTHS], isa, kind)
    assert np.array_equal(whole, run(rows, PLANS, cuts, isa, kind))


def test_a_cache_that_makes_no_sense_has_no_size() -> None:
    cache = cache_of(abi.CacheKind.INT8)
    assert load().hw_cache_bytes(cache) == 10 * LAYERS * KV_HEADS * BLOCK * 2 * (32 + 4)
    cache.block_size = 20
    assert load().hw_cache_bytes(cache) == -1
