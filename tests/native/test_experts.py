"""Mixtures of experts against numpy: routing, gated products of each expert's rows, mixing."""

import numpy as np
import pytest

from headway.checkpoint.packing import WEIGHT_FORMATS, WeightFormat
from headway.native import abi, available
from tests.native.programs import Floats, Recording, compiled, product
from tests.native.test_linear import ISAS, activated, numbers

pytestmark = pytest.mark.skipif(not available(), reason="the native library is not built")

EXPERTS, TOP_K, WIDTH, INNER, ROWS = 5, 2, 64, 96, 70
# Of the size of what is multiplied: an inner number may round to its neighbour in the format.
ROUNDING = {"float32": 1e-5, "bfloat16": 1 / 128, "int8": 1 / 100, "int4": 1 / 100}


def weights() -> list[tuple[Floats, Floats, Floats]]:
    """Gate, up and down of each expert."""
    return [
        (
            numbers(10 + e, INNER, WIDTH) / 8,
            numbers(20 + e, INNER, WIDTH) / 8,
            numbers(30 + e, WIDTH, INNER) / 8,
        )
        for e in range(EXPERTS)
    ]


def record(
    rows: Floats,
    logits: Floats,
    weight_format: WeightFormat,
    normalise: bool,
    epilogue: abi.Epilogue,
) -> tuple[Recording, int]:
    """A mixture of the rows, and the buffer it is put into (or added to)."""
    recording = Recording()
    given, router = recording.rows(rows), recording.rows(logits)
    out = recording.rows(rows[::-1])
    every = weights()
    first, *_ = (recording.gated(gate, up, weight_format) for gate, up, _ in every)
    second, *_ = (recording.matrix(down, weight_format) for _, _, down in every)
    recording.op(
        abi.HwKind.EXPERTS,
        in_=given,
        in2=router,
        out=out,
        matrix=first,
        matrix2=second,
        epilogue=epilogue,
        activation=abi.Activation.SILU,
        num_experts=EXPERTS,
        top_k=TOP_K,
        normalise=normalise,
    )
    recording.lm_head(out)
    return recording, out


def mixture(
    rows: Floats, logits: Floats, weight_format: WeightFormat, normalise: bool
) -> tuple[Floats, Floats]:
    """The expected result, and the size of the products it is a sum of."""
    shares = np.exp(logits - logits.max(axis=1, keepdims=True)).astype(np.float64)
    shares /= shares.sum(axis=1, keepdims=True)
    topk_ids = np.argsort(-logits, axis=1, kind="stable")[:, :TOP_K]
    kept = np.zeros_like(shares)
    np.put_along_axis(kept, topk_ids, np.take_along_axis(shares, topk_ids, axis=1), axis=1)
    if normalise:
        kept /= kept.sum(axis=1, keepdims=True)
    total, size = np.zeros(rows.shape), np.zeros(rows.shape)
    for e, (gate, up, down) in enumerate(weights()):
        opening = activated(product(rows, gate, weight_format)[0], abi.Activation.SILU)
        inner = (opening * product(rows, up, weight_format)[0]).astype(np.float32)
        total += kept[:, e : e + 1] * product(inner, down, weight_format)[0]
        largest = np.abs(inner).max(axis=1, keepdims=True)
        size += kept[:, e : e + 1] * (largest * np.abs(down).sum(axis=1))
    return total, size


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("weight_format", WEIGHT_FORMATS)
@pytest.mark.parametrize("normalise", [False, True])
@pytest.mark.parametrize("epilogue", [abi.Epilogue.STORE, abi.Epilogue.ADD])
def test_mixtures_are_those_of_numpy(
    epilogue: abi.Epilogue, normalise: bool, weight_format: WeightFormat, isa: str
) -> None:
    rows, logits = numbers(1, ROWS, WIDTH), numbers(2, ROWS, EXPERTS)
    logits[:, 3] = -50  # no token's expert
    logits[5] = 1  # all equal: the first two
    recording, out = record(rows, logits, weight_format, normalise, epilogue)
    expected, size = mixture(rows, logits, weight_format, normalise)
    if epilogue is abi.Epilogue.ADD:
        expected, size = expected + rows[::-1], size + np.abs(rows[::-1])
    with compiled(recording, isa) as program:
        program.run(np.arange(ROWS))
        assert np.all(np.abs(program.read(out) - expected) <= ROUNDING[weight_format] * size)


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("weight_format", WEIGHT_FORMATS)
def test_a_mixture_does_not_depend_on_the_batch(weight_format: WeightFormat, isa: str) -> None:
    rows, logits = numbers(1, ROWS, WIDTH), numbers(2, ROWS, EXPERTS)
    recording, out = record(rows, logits, weight_format, True, abi.Epilogue.STORE)
    with compiled(recording, isa) as program:
        program.run(np.arange(ROWS))
        expected = program.read(out).view(np.uint32)
    for threads in (1, 3):
        with compiled(recording, isa, threads) as program:
            for count in (1, 2, 3, 7, 50, 69):
                tokens = (np.arange(count) + 31 * count) % ROWS
                program.run(tokens)
                assert np.array_equal(program.read(out).view(np.uint32), expected[tokens])
