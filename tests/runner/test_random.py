"""Philox against its authors' known answers, and the uniform numbers made of it."""

from __future__ import annotations

import numpy as np
import pytest

from headway.runner.random import philox, uniforms

ALL = 0xFFFFFFFF


@pytest.mark.parametrize(
    ("counter", "key", "expected"),
    [
        ((0,) * 4, (0, 0), (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
        ((ALL,) * 4, (ALL, ALL), (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
        (
            (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
            (0xA4093822, 0x299F31D0),
            (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
        ),
    ],
)
def test_known_answers(
    counter: tuple[int, ...], key: tuple[int, int], expected: tuple[int, ...]
) -> None:
    a, b, c, d = (np.array([word], dtype=np.uint64) for word in counter)
    low, high = (np.array([word], dtype=np.uint64) for word in key)
    assert tuple(int(word[0]) for word in philox((a, b, c, d), (low, high))) == expected


def test_uniforms_are_the_top_53_bits_of_the_first_two_words() -> None:
    word = 0xE169C58D << 32 | 0x6627E8D5
    assert uniforms([0], [0])[0] == (word >> 11) / 2**53


def test_uniforms_depend_on_nothing_but_their_own_pair() -> None:
    seeds, places = [5, -3, 2**63 - 1, 5], [0, 9, 2**33, 1]
    together = uniforms(seeds, places)
    alone = [uniforms([s], [p])[0] for s, p in zip(seeds, places, strict=True)]
    assert together.tolist() == alone
    assert len(set(alone)) == 4


def test_uniforms_are_uniform_over_positions_and_over_seeds() -> None:
    number = 20_000
    for values in (
        uniforms([42] * number, list(range(number))),
        uniforms(list(range(number)), [7] * number),
    ):
        assert values.min() >= 0
        assert values.max() < 1
        counts, _ = np.histogram(values, bins=50, range=(0, 1))
        chi_square = ((counts - number / 50) ** 2 / (number / 50)).sum()
        assert chi_square < 90  # 49 degrees of freedom: exceeded once in 3,000 seeds
