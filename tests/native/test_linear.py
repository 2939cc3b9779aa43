"""Products with packed matrices: every weight format on every instruction set, against numpy."""

from collections.abc import Iterator

import numpy as np
import pytest

from headway.checkpoint.packing import WEIGHT_FORMATS, WeightFormat
from headway.native import abi, available, load, supported
from tests.native.programs import Floats, Recording, compiled, product, seen

pytestmark = pytest.mark.skipif(not available(), reason="the native library is not built")

ISAS = supported(load()) if available() else []
# (outputs, inputs): one, odd, just below and above a panel or a group, and a real layer's.
SHAPES = [(1, 1), (3, 7), (31, 63), (32, 64), (33, 65), (70, 130), (96, 576)]
# Blocks of four bits have 32 inputs, so no matrix has a part of one.
FOUR_BIT_SHAPES = [(1, 32), (33, 96), (70, 160), (96, 576)]


def cases() -> Iterator[tuple[WeightFormat, tuple[int, int]]]:
    for weight_format in WEIGHT_FORMATS:
        for shape in FOUR_BIT_SHAPES if weight_format == "int4" else SHAPES:
            yield weight_format, shape


def numbers(seed: int, *shape: int) -> Floats:
    """Normal numbers in rows of different size."""
    random = np.random.default_rng(seed)
    sizes = np.exp(random.normal(size=(*shape[:-1], 1)))
    return (random.normal(size=shape) * sizes).astype(np.float32)


def one_product(
    rows: Floats, weights: Floats, weight_format: WeightFormat, bias: Floats | None = None
) -> tuple[Recording, int]:
    """A recording that converts the rows and multiplies them, and the buffer of the result."""
    recording = Recording()
    given = recording.converted(recording.rows(rows), weight_format)
    out = recording.buffer(len(weights))
    matrix = recording.matrix(weights, weight_format, bias)
    recording.op(abi.HwKind.LINEAR, in_=given, out=out, matrix=matrix)
    recording.lm_head(given)
    return recording, out


def assert_close(actual: Floats, expected: tuple[Floats, Floats]) -> None:
    exact, allowed = expected
    assert actual.shape == exact.shape
    assert np.all(np.abs(actual - exact) <= allowed), np.abs(actual - exact).max()


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize(("weight_format", "shape"), list(cases()))
def test_products_are_those_of_numpy(
    weight_format: WeightFormat, shape: tuple[int, int], isa: str
) -> None:
    weights, rows = numbers(1, *shape), numbers(2, 13, shape[1])
    bias = numbers(3, shape[0])
    for given in (None, bias):
        recording, out = one_product(rows, weights, weight_format, given)
        exact, allowed = product(rows, weights, weight_format)
        if given is not None:
            exact, allowed = exact + given, allowed + np.abs(given) * 1e-6
        with compiled(recording, isa) as program:
            for count in (1, 2, 5, 13):
                program.run(np.arange(count))
                assert_close(program.read(out), (exact[:count], allowed[:count]))


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("weight_format", ["int8", "int4"])
def test_the_largest_numbers_of_a_group_do_not_overflow(
    weight_format: WeightFormat, sign: int, isa: str
) -> None:
    weights, rows = np.full((33, 576), 15.0, np.float32), np.full((50, 576), sign, np.float32)
    weights[:, ::32] = 0  # so that all others are 15 in four bits
    recording, out = one_product(rows, weights, weight_format)
    exact, allowed = product(rows, weights, weight_format)
    with compiled(recording, isa) as program:
        for count in (1, 4, 50):
            program.run(np.arange(count))
            assert_close(program.read(out), (exact[:count], allowed[:count]))


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("weight_format", WEIGHT_FORMATS)
def test_adding_keeps_what_was_there(weight_format: WeightFormat, isa: str) -> None:
    rows, weights = numbers(1, 9, 64), numbers(2, 64, 64)
    recording = Recording()
    residual = recording.rows(rows)
    given = recording.converted(residual, weight_format)
    matrix = recording.matrix(weights, weight_format)
    recording.op(
        abi.HwKind.LINEAR, in_=given, out=residual, matrix=matrix, epilogue=abi.Epilogue.ADD
    )
    recording.lm_head(given)
    exact, allowed = product(rows, weights, weight_format)
    with compiled(recording, isa) as program:
        program.run(np.arange(9))
        assert_close(program.read(residual), (exact + rows, allowed + np.abs(rows) * 1e-6))


def activated(gate: Floats, activation: abi.Activation) -> Floats:
    x: Floats = gate.astype(np.float64)
    if activation is abi.Activation.SILU:
        return np.asarray(x / (1 + np.exp(-x)))
    return np.asarray(x / 2 * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3))))


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("weight_format", WEIGHT_FORMATS)
@pytest.mark.parametrize("activation", list(abi.Activation))
@pytest.mark.parametrize("inner", [1, 16, 17, 100])
def test_gated_products(
    inner: int, activation: abi.Activation, weight_format: WeightFormat, isa: str
) -> None:
    rows, biases = numbers(1, 7, 96), numbers(2, 2, inner)
    gate, up = numbers(3, inner, 96) / 8, numbers(4, inner, 96) / 8
    recording = Recording()
    given = recording.converted(recording.rows(rows), weight_format)
    out = recording.buffer(inner)
    recording.op(
        abi.HwKind.LINEAR,
        in_=given,
        out=out,
        matrix=recording.gated(gate, up, weight_format, biases),
        epilogue=abi.Epilogue.GATE,
        activation=activation,
    )
    recording.lm_head(given)
    opening, unsure = product(rows, gate, weight_format)
    opening = activated(opening + biases[0], activation)
    through, unsure_too = product(rows, up, weight_format)
    through = through + biases[1]
    # Neither activation is steeper than 1.2.
    allowed = 1.2 * unsure * np.abs(through) + unsure_too * np.abs(opening)
    allowed += 4e-6 * (np.abs(opening * through) + np.abs(through))
    with compiled(recording, isa) as program:
        program.run(np.arange(7))
        assert_close(program.read(out), (opening * through, allowed))


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("weight_format", ["float32", "bfloat16", "int8"])
def test_a_product_of_odd_width_feeds_the_next(weight_format: WeightFormat, isa: str) -> None:
    """What lies behind the 70 outputs of the first must not be seen by the second."""
    rows, first, second = numbers(1, 6, 64), numbers(2, 70, 64), numbers(3, 5, 70)
    recording = Recording()
    given = recording.converted(recording.rows(rows), weight_format)
    middle = recording.buffer(70)
    bias = numbers(4, 70)
    recording.op(
        abi.HwKind.LINEAR,
        in_=given,
        out=middle,
        matrix=recording.matrix(first, weight_format, bias),
    )
    between = recording.converted(middle, weight_format)
    out = recording.buffer(5)
    recording.op(
        abi.HwKind.LINEAR, in_=between, out=out, matrix=recording.matrix(second, weight_format)
    )
    recording.lm_head(between)
    with compiled(recording, isa) as program:
        program.run(np.arange(6))
        # From the middle as it came out, because rounding it may amplify a last bit's difference.
        expected = product(program.read(middle), second, weight_format)
        assert_close(program.read(middle), with_bias(product(rows, first, weight_format), bias))
        assert_close(program.read(out), expected)


def with_bias(expected: tuple[Floats, Floats], bias: Floats) -> tuple[Floats, Floats]:
    return expected[0] + bias, expected[1] + np.abs(bias) * 1e-6


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("weight_format", WEIGHT_FORMATS)
def test_a_row_comes_out_the_same_in_every_batch(weight_format: WeightFormat, isa: str) -> None:
    """Bit for bit, alone and among up to 257 rows, at any place, with one to three threads."""
    rows, weights = numbers(1, 257, 160), numbers(2, 70, 160)
    recording, out = one_product(rows, weights, weight_format)
    with compiled(recording, isa, threads=1) as program:
        program.run(np.arange(257))
        expected = program.read(out).view(np.uint32)
    for threads in (1, 2, 3):
        with compiled(recording, isa, threads) as program:
            for count in range(1, 258):
                # A different run of rows for every count, so that places differ too.
                tokens = (np.arange(count) + 31 * count) % 257
                program.run(tokens)
                assert np.array_equal(program.read(out).view(np.uint32), expected[tokens]), count


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("weight_format", WEIGHT_FORMATS)
def test_zeros_and_the_largest_numbers(weight_format: WeightFormat, isa: str) -> None:
    """Rows and weights of zeros, of the most extreme whole numbers, and of one large number."""
    rows = np.zeros((5, 64), np.float32)
    rows[1], rows[2], rows[3, 5] = 127, -127, 3e4
    rows[4, ::2], rows[4, 1::2] = 127, -127
    weights = np.zeros((5, 64), np.float32)
    weights[1], weights[2] = 127, -127
    weights[3, ::2], weights[3, 1::2] = 127, -127
    weights[4, 5] = 1e4
    recording, out = one_product(rows, weights, weight_format)
    with compiled(recording, isa) as program:
        program.run(np.arange(5))
        assert_close(program.read(out), product(rows, weights, weight_format))
        assert not program.read(out)[0].any()


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("weight_format", WEIGHT_FORMATS)
@pytest.mark.parametrize("softcap", [0.0, 3.0])
def test_logits_of_the_lm_head(softcap: float, weight_format: WeightFormat, isa: str) -> None:
    rows, weights = numbers(1, 11, 96), numbers(2, 205, 96) / 8
    recording = Recording()
    given = recording.converted(recording.rows(rows), weight_format)
    recording.op(
        abi.HwKind.LM_HEAD,
        in_=given,
        matrix=recording.matrix(weights, weight_format),
        softcap=softcap,
    )
    exact, allowed = product(rows, weights, weight_format)
    if softcap:
        exact = (softcap * np.tanh(exact.astype(np.float64) / softcap)).astype(np.float32)
        allowed = allowed + 2e-6 * softcap
    with compiled(recording, isa) as program:
        program.run(np.arange(11))
        assert_close(program.logits(), (exact, allowed))


def test_what_a_matrix_sees_of_a_row_is_close_to_the_row() -> None:
    """Guards the other tests' yardstick: rounding of rows stays within half a step."""
    rows = numbers(1, 20, 160)
    highest = np.abs(rows).max(axis=1, keepdims=True)
    assert np.array_equal(seen(rows, "float32"), rows)
    assert np.all(np.abs(seen(rows, "bfloat16") - rows) <= np.abs(rows) / 256)
    for weight_format in ("int8", "int4"):
        assert np.all(np.abs(seen(rows, weight_format) - rows) <= highest / 254 * 1.0001)
