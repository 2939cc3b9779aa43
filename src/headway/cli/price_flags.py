"""The flags that say what a machine costs: `--price-per-hour` and `--currency`."""

from __future__ import annotations

import argparse

from headway.errors import InvalidRequest
from headway.perf.report.price import CURRENCY, HourlyPrice


def add_price_flags(group: argparse._ActionsContainer, *, of: str) -> None:
    """Add both to a group; `of` is the machine whose price it is, in words."""
    group.add_argument(
        "--price-per-hour",
        type=float,
        metavar="X",
        help=f"of {of}: costs of a million generated tokens are shown",
    )
    group.add_argument(
        "--currency",
        metavar="CODE",
        help=f"of the price, such as EUR (default: {CURRENCY})",
    )


def price_from(arguments: argparse.Namespace) -> HourlyPrice | None:
    """The price that the flags give; None without one.

    Raises `InvalidRequest` naming the flag for a price or a currency that is none, and for a
    currency without a price.
    """
    price: float | None = arguments.price_per_hour
    currency: str | None = arguments.currency
    if price is None:
        if currency is not None:
            raise InvalidRequest("--currency needs --price-per-hour", field="--currency")
        return None
    try:
        return HourlyPrice(price, CURRENCY if currency is None else currency)
    except InvalidRequest as error:
        flag = "--currency" if error.field == "currency" else "--price-per-hour"
        raise InvalidRequest(f"{flag}: {error.message}", field=flag) from error
