"""Work on single rows: norms, conversions and embedding, against numpy."""

import numpy as np
import pytest

from headway.checkpoint.packing import WEIGHT_FORMATS, WeightFormat, dequantize, quantize_rows
from headway.native import abi, available
from tests.native.programs import Floats, Recording, compiled, seen
from tests.native.test_linear import ISAS, numbers

pytestmark = pytest.mark.skipif(not available(), reason="the native library is not built")

WIDTHS = [1, 15, 16, 63, 64, 65, 200]
EPS = 1e-5


def normed(rows: Floats, weight: Floats) -> Floats:
    x: Floats = rows.astype(np.float64)
    return np.asarray(x / np.sqrt((x * x).mean(axis=1, keepdims=True) + EPS) * weight)


def record_norm(
    rows: Floats, weight: Floats, weight_format: WeightFormat
) -> tuple[Recording, int, int]:
    """A norm of rows into `weight_format`, and beside it in float32: both buffers."""
    recording = Recording()
    given = recording.rows(rows)
    out = recording.buffer(rows.shape[1], weight_format)
    beside = -1 if weight_format == "float32" else recording.buffer(rows.shape[1])
    recording.op(
        abi.HwKind.NORM, in_=given, out=out, out2=beside, weight=recording.hold(weight), eps=EPS
    )
    recording.lm_head(out)
    return recording, out, beside


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("width", WIDTHS)
def test_norms_are_those_of_numpy(width: int, isa: str) -> None:
    rows, weight = numbers(1, 9, width), numbers(2, width)
    rows[3] = 0
    recording, out, _ = record_norm(rows, weight, "float32")
    with compiled(recording, isa) as program:
        program.run(np.arange(9))
        np.testing.assert_allclose(program.read(out), normed(rows, weight), rtol=3e-6, atol=1e-30)


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("weight_format", ["bfloat16", "int8", "int4"])
@pytest.mark.parametrize("width", [64, 96, 200])
def test_a_norm_goes_straight_into_a_weight_format(
    width: int, weight_format: WeightFormat, isa: str
) -> None:
    rows, weight = numbers(1, 9, width), numbers(2, width)
    recording, out, beside = record_norm(rows, weight, weight_format)
    with compiled(recording, isa) as program:
        program.run(np.arange(9))
        plain = program.read(beside)
        np.testing.assert_allclose(plain, normed(rows, weight), rtol=3e-6, atol=1e-30)
        assert np.array_equal(program.read(out), seen(plain, weight_format))


@pytest.mark.parametrize("isa", ISAS)
def test_a_norm_is_added(isa: str) -> None:
    rows, weight = numbers(1, 9, 70), numbers(2, 70)
    recording = Recording()
    given, out = recording.rows(rows), recording.rows(rows[::-1])
    recording.op(
        abi.HwKind.NORM,
        in_=given,
        out=out,
        weight=recording.hold(weight),
        eps=EPS,
        epilogue=abi.Epilogue.ADD,
    )
    recording.lm_head(out)
    expected = rows[::-1] + normed(rows, weight)
    with compiled(recording, isa) as program:
        program.run(np.arange(9))
        np.testing.assert_allclose(program.read(out), expected, rtol=3e-6, atol=1e-6)


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("weight_format", WEIGHT_FORMATS)
@pytest.mark.parametrize("width", WIDTHS)
def test_conversions_round_as_numpy_does(width: int, weight_format: WeightFormat, isa: str) -> None:
    rows = numbers(1, 6, width)
    rows[2] = 0
    rows[3] *= 1e-6
    rows[4] *= 1e6
    recording = Recording()
    out = recording.converted(recording.rows(rows), weight_format)
    recording.lm_head(out)
    with compiled(recording, isa) as program:
        program.run(np.arange(6))
        assert np.array_equal(program.read(out), seen(rows, weight_format))


@pytest.mark.parametrize("isa", ISAS)
def test_halves_round_to_even(isa: str) -> None:
    # 127 as the largest makes the step exactly 1; above 256, bfloat16 holds even numbers only.
    rows = np.zeros((1, 64), np.float32)
    rows[0, :7] = [127, 0.5, 1.5, 2.5, -0.5, -1.5, -2.5]
    whole = np.zeros((1, 64), np.float32)
    whole[0, :4] = [257, 259, -257, -259]
    recording = Recording()
    small = recording.converted(recording.rows(rows), "int8")
    large = recording.converted(recording.rows(whole), "bfloat16")
    recording.lm_head(small)
    with compiled(recording, isa) as program:
        program.run(np.arange(1))
        assert program.read(small)[0, :7].tolist() == [127, 0, 2, 2, 0, -2, -2]
        assert program.read(large)[0, :4].tolist() == [256, 260, -256, -260]


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("weight_format", WEIGHT_FORMATS)
@pytest.mark.parametrize("width", [32, 96, 160])
def test_an_embedding_is_the_matrix_row(width: int, weight_format: WeightFormat, isa: str) -> None:
    table = numbers(1, 75, width)
    recording = Recording()
    out = recording.buffer(width)
    matrix = recording.matrix(table, weight_format)
    recording.op(abi.HwKind.EMBED, matrix=matrix, out=out, scale=1.5)
    recording.lm_head(out)
    tokens = np.array([0, 74, 31, 32, 15, 16, 63, 64, 0])
    expected = dequantize(quantize_rows(table, weight_format), width)[tokens] * np.float32(1.5)
    with compiled(recording, isa) as program:
        program.run(tokens)
        # A four-bit weight is a product and a sum, which some instruction sets round once.
        rounding = 1e-6 if weight_format == "int4" else 0
        np.testing.assert_allclose(program.read(out), expected, rtol=rounding, atol=rounding)


@pytest.mark.parametrize("isa", ISAS)
def test_rows_do_not_depend_on_their_batch(isa: str) -> None:
    rows, weight = numbers(1, 257, 200), numbers(2, 200)
    for weight_format in WEIGHT_FORMATS:
        recording, out, _ = record_norm(rows, weight, weight_format)
        with compiled(recording, isa) as program:
            program.run(np.arange(257))
            expected = program.read(out).view(np.uint32)
        for threads in (1, 2, 3):
            with compiled(recording, isa, threads) as program:
                for count in range(1, 258, 8):
                    tokens = (np.arange(count) + 31 * count) % 257
                    program.run(tokens)
                    assert np.array_equal(program.read(out).view(np.uint32), expected[tokens])
