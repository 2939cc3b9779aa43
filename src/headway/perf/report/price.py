"""What a machine costs an hour, and so what the tokens cost that it generates."""

from __future__ import annotations

import math
from dataclasses import dataclass

from headway.errors import InvalidRequest

CURRENCY = "USD"
"""Of prices of which nobody says another."""


@dataclass(frozen=True, slots=True)
class HourlyPrice:
    """A price per hour, at least 0, and its currency: a code of three capital letters."""

    per_hour: float
    currency: str = CURRENCY

    def __post_init__(self) -> None:
        """Raises `InvalidRequest` for a price or a currency that is none."""
        if not 0 <= self.per_hour < math.inf:
            raise InvalidRequest(
                f"the price per hour must be a number from 0, not {self.per_hour:g}",
                field="price_per_hour",
            )
        code = self.currency
        if not (len(code) == 3 and code.isascii() and code.isalpha() and code.isupper()):
            raise InvalidRequest(
                f"the currency must be a code of three capital letters, such as EUR, not {code!r}",
                field="currency",
            )

    def per_million(self, tokens_per_second: float) -> float:
        """Price of a million tokens at so many a second, which must be above 0."""
        return self.per_hour / 3600.0 / tokens_per_second * 1e6
