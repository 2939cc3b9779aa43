"""A price is a number and a currency, and what is none is an error that names the field."""

from __future__ import annotations

import math

import pytest

from headway.errors import InvalidRequest
from headway.perf.report.price import HourlyPrice


def test_a_million_tokens_cost_the_hours_that_they_take() -> None:
    assert HourlyPrice(3.6).per_million(1000.0) == pytest.approx(1.0)
    assert HourlyPrice(0.0).per_million(1.0) == 0.0


@pytest.mark.parametrize("price", [-0.01, math.inf, math.nan])
def test_prices_that_are_none(price: float) -> None:
    with pytest.raises(InvalidRequest, match="number from 0") as raised:
        HourlyPrice(price)
    assert raised.value.field == "price_per_hour"


@pytest.mark.parametrize("currency", ["", "eur", "EURO", "€", "E R", "ÄÖÜ"])
def test_currencies_that_are_none(currency: str) -> None:
    with pytest.raises(InvalidRequest, match="such as EUR") as raised:
        HourlyPrice(1.0, currency)
    assert raised.value.field == "currency"
