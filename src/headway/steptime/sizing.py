"""The right batch size as arithmetic: how wide a batch may be, and what that is worth.

In a steady state, answers start as often as others end. Let `width` be how many answers get a token
in each step. Of so many, `width / output` start, which brings `width * prompt / output` tokens of
prompts to compute, and the others decode. So the width alone gives the step, the step-time model
its seconds, and these the pace of each answer and the requests a second that the machine serves.
A width below 1 stands for one answer at a time, with that share of the next prompt computed beside
it and the rest alone; 0 is an answer that has the machine to itself.

The curve over all widths is computed once, on the model as it is, with whatever kinks it has;
what is asked of it are look-ups. Both its times and its rates are made to rise with the width, so
that more room never seems to be worth less. It takes about a millisecond: good once a second, not
for every step. Prompts are taken to be spread evenly over steps, as chunked prefill aims at; that
batches of prompts come in bursts is left to whoever simulates. Knows nothing of requests.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterator
from collections.abc import Sequence as Seq
from dataclasses import dataclass
from itertools import accumulate
from math import ceil
from typing import Protocol

from headway.steptime.shape import StepShape, pairs_within, shape_of
from headway.types import Slice
from headway.types.traffic import Traffic

MOST_WIDTH = 2**16
SATURATED = 0.05
"""Where twice the width serves less than this share more, the width does not limit any more."""
_EVERY_WIDTH = 16
_FACTOR = 1.1
"""Beyond the first few, widths of the curve are so far apart; between them it is a line."""
_CLOSE = 0.01
_CHUNKS = 16
"""Of a long prompt so many chunks are predicted, which stand for all."""

Seconds = Callable[[StepShape], float]


class Predictor(Protocol):
    """A step-time model that plans are made with."""

    @property
    def window(self) -> int | None:
        """The model's sliding window, None where it has none."""
        ...

    def predict(self, shape: StepShape) -> float:
        """Expected seconds of a cycle with this step."""
        ...

    def bound(self, shape: StepShape) -> float:
        """Seconds that few such cycles exceed; never less than expected."""
        ...


def steady_step(width: float, traffic: Traffic, window: int | None = None) -> StepShape:
    """The mean step of a steady state, in whole numbers, rounded up; see the module."""
    starting = width / traffic.output
    decodes = int(traffic.output > 1) if width < 1 else _up(width - starting)
    tokens = _up(starting * traffic.prompt)
    slices = max(1, _up(starting)) if tokens else 0
    size = min(traffic.prompt, tokens / slices) if slices else 0.0
    # The mean chunk of a prompt lies in its middle.
    last = traffic.cached + (traffic.prompt + size) / 2
    near = near_pairs = near_last = 0.0
    if window is not None:
        near = min(traffic.context, window)
        length = max(1, round(traffic.prompt))
        near_pairs = pairs_within(round(traffic.cached), length, window) / length
        near_last = min(last, window + size - 1)
    return StepShape(
        tokens=decodes + tokens,
        sequences=decodes + slices,
        rows=decodes + round(starting),
        decodes=decodes,
        decode_context=_up(decodes * traffic.context),
        prefill_pairs=_up(tokens * (traffic.cached + (traffic.prompt + 1) / 2)),
        prefill_context=_up(slices * last),
        decode_context_window=_up(decodes * near),
        prefill_pairs_window=_up(tokens * near_pairs),
        prefill_context_window=_up(slices * near_last),
    )


def prefill_seconds(
    seconds: Seconds, prompt: int, chunk: int, *, cached: int = 0, window: int | None = None
) -> float:
    """Time to compute the tokens of one prompt, alone, in chunks of so many at most."""
    whole, rest = divmod(prompt, chunk)
    total = 0.0
    if rest:
        total += seconds(_chunk_shape(cached + whole * chunk, rest, window))
    some = min(whole, _CHUNKS)
    for number in range(some):
        # Time grows evenly with what came before, so chunks in the middle of theirs stand for all.
        place = ((number + 0.5) * whole / some - 0.5) * chunk
        total += seconds(_chunk_shape(cached + round(place), chunk, window)) * whole / some
    return total


@dataclass(frozen=True, slots=True, kw_only=True)
class Curve:
    """What each width gives, from 0 up. All sequences rise, or stay."""

    widths: Seq[float]
    seconds: Seq[float]
    """Expected time of a step."""
    bounds: Seq[float]
    """Time that few steps exceed; that of 0 is the lowest TPOT that any batch can hold."""
    tokens: Seq[float]
    """New tokens in a step."""
    rates: Seq[float]
    """Requests a second that are served, or more: as many as any narrower batch serves."""

    def seconds_at(self, width: float) -> float:
        return _value(self.widths, self.seconds, width)

    def bound_at(self, width: float) -> float:
        return _value(self.widths, self.bounds, width)

    def tokens_at(self, width: float) -> float:
        return _value(self.widths, self.tokens, width)

    def rate_at(self, width: float) -> float:
        return _value(self.widths, self.rates, width)

    def within(self, seconds: float) -> float | None:
        """The largest width whose steps keep this bound; None where even 0 does not."""
        return _most(self.widths, self.bounds, seconds)

    def within_tokens(self, tokens: int) -> float:
        """The largest width whose steps have so many new tokens at most."""
        return _most(self.widths, self.tokens, tokens) or 0.0

    def serving(self, rate: float) -> float | None:
        """The least width that serves so many requests a second; None where none does."""
        return _least(self.widths, self.rates, rate)

    @property
    def saturated(self) -> float:
        """The least width of which twice as much serves hardly more; at least 1."""
        wide = (width for width in self.widths if width >= 1 and self._saturated_at(width))
        high = next(wide, self.widths[-1])
        low = max(1.0, self.widths[self.widths.index(high) - 1])
        while high - low > _CLOSE * low:
            middle = (low + high) / 2
            low, high = (low, middle) if self._saturated_at(middle) else (middle, high)
        return high

    def _saturated_at(self, width: float) -> bool:
        return self.rate_at(2 * width) < (1 + SATURATED) * self.rate_at(width)


def curve_of(times: Predictor, traffic: Traffic, chunk: int) -> Curve:
    """The curve for this traffic. Prompts that are computed alone are so in chunks of `chunk`."""
    widths = list(_widths())
    shapes = [steady_step(width, traffic, times.window) for width in widths]
    seconds = [times.predict(shape) for shape in shapes]
    rates = [
        _rate(width, each, traffic, times, chunk)
        for width, each in zip(widths, seconds, strict=True)
    ]
    return Curve(
        widths=widths,
        seconds=list(accumulate(seconds, max)),
        bounds=list(accumulate((times.bound(shape) for shape in shapes), max)),
        tokens=list(accumulate((float(shape.tokens) for shape in shapes), max)),
        rates=list(accumulate(rates, max)),
    )


def _rate(width: float, seconds: float, traffic: Traffic, times: Predictor, chunk: int) -> float:
    """Requests a second of a steady state with steps of so many seconds."""
    if width >= 1:
        return width / (traffic.output * seconds)
    decodes = traffic.output - 1
    beside = width * traffic.prompt * decodes / traffic.output
    alone = max(1, _up(traffic.prompt - beside))
    cached = round(traffic.cached + traffic.prompt) - alone
    rest = prefill_seconds(times.predict, alone, chunk, cached=max(0, cached), window=times.window)
    return 1 / (decodes * seconds + rest)


def _widths() -> Iterator[float]:
    yield from (0.0, 0.25, 0.5, 0.75)
    width = 1
    while width < MOST_WIDTH:
        yield float(width)
        width = width + 1 if width < _EVERY_WIDTH else ceil(width * _FACTOR)
    yield float(MOST_WIDTH)


def _chunk_shape(start: int, count: int, window: int | None) -> StepShape:
    piece = Slice(seq=0, start=start, tokens=range(count), blocks=(), outputs=1)
    return shape_of([piece], window)


def _up(number: float) -> int:
    """Rounded up, but for what is only an error of floating-point numbers."""
    return ceil(number - 1e-9 * max(1.0, number))


def _value(widths: Seq[float], values: Seq[float], width: float) -> float:
    """On the lines between the points; beyond the last one, its value."""
    above = bisect_right(widths, width)
    if above == len(widths):
        return values[-1]
    below = max(0, above - 1)
    share = (width - widths[below]) / (widths[above] - widths[below])
    return values[below] + max(0.0, share) * (values[above] - values[below])


def _most(widths: Seq[float], values: Seq[float], value: float) -> float | None:
    """The largest width whose value is not above this one."""
    above = bisect_right(values, value)
    if above == 0:
        return None
    return widths[-1] if above == len(values) else _between(widths, values, above, value)


def _least(widths: Seq[float], values: Seq[float], value: float) -> float | None:
    """The least width whose value is not below this one."""
    above = bisect_left(values, value)
    if above == len(values):
        return None
    return widths[0] if above == 0 else _between(widths, values, above, value)


def _between(widths: Seq[float], values: Seq[float], above: int, value: float) -> float:
    """Where the line to the point `above` has this value, which is below that point's."""
    low, high = values[above - 1], values[above]
    share = (value - low) / (high - low)
    return widths[above - 1] + share * (widths[above] - widths[above - 1])
