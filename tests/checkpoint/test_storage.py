"""Storage types round to nearest, ties to even, as torch does."""

from __future__ import annotations

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from headway.checkpoint.storage import cast, widen


@given(bits=st.lists(st.integers(0, 2**32 - 1), min_size=1, max_size=64))
def test_bfloat16_equals_torchs(bits: list[int]) -> None:
    values = np.array(bits, np.uint32).view(np.float32)
    theirs = torch.from_numpy(values.copy()).bfloat16().float().numpy()
    ours = widen(cast(values, "bfloat16").view(np.uint16))
    np.testing.assert_array_equal(ours, theirs)


def test_ties_go_to_even() -> None:
    ties = np.array([0x3F808000, 0x3F818000, 0x3F808001, 0x7F7FFFFF], np.uint32).view(np.float32)
    assert cast(ties, "bfloat16").tolist() == [0x3F80, 0x3F82, 0x3F81, 0x7F80]


def test_the_other_types_are_numpys() -> None:
    values = np.array([1.0, 65520.0, 1e-8], np.float32)
    assert cast(values, "float16").tolist() == [1.0, float("inf"), 0.0]
    assert cast(values, "float32").tolist() == values.tolist()
