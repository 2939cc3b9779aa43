"""Philox against its definition, and the exponential numbers made of it."""

from __future__ import annotations

import math

import pytest
import torch

from headway.runner.sampling.sampler import exponentials, words

ALL = 2**64 - 1


def philox(counter: tuple[int, ...], key: tuple[int, int]) -> tuple[int, ...]:
    """Ten rounds of Philox 4x64 in Python's own integers, from the paper."""
    a, b, c, d = counter
    low, high = key
    for _ in range(10):
        first, second = a * 0xD2E7470EE14C6C93, c * 0xCA5A826395121157
        a, b, c, d = (second >> 64) ^ b ^ low, second & ALL, (first >> 64) ^ d ^ high, first & ALL
        low, high = (low + 0x9E3779B97F4A7C15) & ALL, (high + 0xBB67AE8584CAA73B) & ALL
    return a, b, c, d


def test_the_definition_gives_its_authors_known_answer() -> None:
    assert philox((0, 0, 0, 0), (0, 0))[0] == 0x16554D9ECA36314C


@pytest.mark.parametrize(("seed", "position"), [(0, 0), (7, 123), (-1, 2**33), (2**63 - 1, 1)])
def test_words_are_the_halves_of_philox_counting_from_one(seed: int, position: int) -> None:
    expected = [
        half
        for count in (1, 2)
        for word in philox((count, 0, 0, 0), (seed & ALL, position))
        for half in (word & 0xFFFFFFFF, word >> 32)
    ]
    assert words(seed, position, 13).tolist() == expected[:13]


def test_exponentials_are_minus_log_of_the_words() -> None:
    found = exponentials([5], [9], 1000)[0].tolist()
    for word, number in zip(words(5, 9, 1000).tolist(), found, strict=True):
        assert number == pytest.approx(-math.log1p(-(word + 0.5) / 2**32), rel=1e-5)


def test_numbers_depend_on_nothing_but_their_own_pair() -> None:
    seeds, places = [5, -3, 2**63 - 1, 5], [0, 9, 2**33, 1]
    together = exponentials(seeds, places, 101)
    for n in range(4):
        assert torch.equal(together[n], exponentials([seeds[n]], [places[n]], 101)[0])
    assert len({row[0] for row in together.tolist()}) == 4


def test_numbers_are_exponential_over_tokens_positions_and_seeds() -> None:
    number = 20_000
    for values in (
        exponentials([42], [7], number)[0],
        exponentials([42] * number, list(range(number)), 1)[:, 0],
        exponentials(list(range(number)), [7] * number, 1)[:, 0],
    ):
        assert values.isfinite().all()
        assert (values > 0).all()
        counts = torch.histc(torch.exp(-values), bins=50, min=0, max=1)
        chi_square = ((counts - number / 50) ** 2 / (number / 50)).sum()
        assert chi_square < 90  # 49 degrees of freedom: exceeded once in 3,000 seeds
