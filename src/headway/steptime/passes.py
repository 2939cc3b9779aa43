"""How far it pays to compute prompts together: passes of more and more prompt tokens.

Short prompts can be laid end to end and computed in one pass, without padding. A pass of few tokens
takes about as long as reading the weights does, however few they are, so more of them are free;
where their arithmetic takes longer than that, a larger pass only saves what every pass costs. Here
that becomes a curve: of the time that passes take by the step-time model, the share that the
machine's arithmetic needs at its peak rate. 100 % would be a machine that does nothing but compute.
"""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass

from headway.steptime.model import StepTimeModel
from headway.steptime.shape import StepShape, pairs_within, weights_read, work_of

PROMPT = 64
"""Tokens of a short prompt: a pass has as many of them as it takes, equally long or nearly so."""
MOST = 8192
"""Tokens of the largest pass."""
WORTH = 0.8
"""Share of the best percentage from which on a larger pass hardly pays."""
_POINTS_A_DOUBLING = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class PassCurve:
    """Passes of one model on one machine."""

    name: str
    """Whose they are, for people."""
    tokens: tuple[int, ...]
    """From 1 to `MOST`, ascending."""
    percent: tuple[float, ...]
    """For each, the time that its arithmetic takes at the peak rate over the pass's own."""
    hides: int | None
    """The least tokens whose arithmetic takes as long as reading the weights; None beyond `MOST`.
    Below, tokens are nearly free, whatever else a pass costs."""
    worth: int
    """The least tokens of a pass that reaches `WORTH` of the best percentage."""

    @property
    def best(self) -> float:
        """The highest percentage."""
        return max(self.percent)

    @property
    def text(self) -> str:
        """What it says, in a sentence."""
        if self.hides is None:
            hidden = f"reading the weights takes longer than the arithmetic of {MOST:,} tokens"
        else:
            hidden = f"from {self.hides:,} tokens on arithmetic hides reading the weights"
        return (
            f"Prompts laid end to end in one pass, {self.name}: {hidden}, and from {self.worth:,} "
            f"on a pass reaches {100 * WORTH:.0f} % of the best, which is {self.best:.0f} % of the "
            "arithmetic limit."
        )


def pass_curve(name: str, model: StepTimeModel) -> PassCurve:
    """The curve that a step-time model gives."""
    steps = range(_POINTS_A_DOUBLING * (MOST.bit_length() - 1) + 1)
    tokens = sorted({round(2 ** (step / _POINTS_A_DOUBLING)) for step in steps})
    percent = [percent_of_arithmetic(each, model) for each in tokens]
    enough = WORTH * max(percent)
    after = next(place for place, share in enumerate(percent) if share >= enough)
    between = range(tokens[max(0, after - 1)], tokens[after] + 1)
    worth = next(each for each in between if percent_of_arithmetic(each, model) >= enough)
    return PassCurve(
        name=name,
        tokens=tuple(tokens),
        percent=tuple(percent),
        hides=hiding_tokens(model),
        worth=worth,
    )


def percent_of_arithmetic(tokens: int, model: StepTimeModel) -> float:
    """Of the predicted time of a pass, the share that its arithmetic takes at the peak rate.

    At most 100: where passes are predicted to be faster, the rate was measured too low.
    """
    shape = pass_shape(tokens, model.sizes.window)
    flops, _ = work_of(shape, model.sizes)
    return min(100.0, 100.0 * flops / model.machine.flops_per_second / model.predict(shape))


def pass_shape(tokens: int, window: int | None = None) -> StepShape:
    """The step that computes prompts of so many tokens together, and a first token for each."""
    prompts = -(-tokens // PROMPT)
    if prompts == 1:
        return StepShape().with_slice(0, tokens, 1, window)
    short, longer = divmod(tokens, prompts)
    lengths = ((short, prompts - longer), (short + 1, longer))
    near = lengths if window is not None else ()
    return StepShape(
        tokens=tokens,
        sequences=prompts,
        rows=prompts,
        prefill_pairs=sum(count * each * (each + 1) // 2 for each, count in lengths),
        prefill_context=tokens,
        prefill_pairs_window=sum(
            count * pairs_within(0, each, window or 0) for each, count in near
        ),
        prefill_context_window=sum(
            count * min(each, (window or 0) + each - 1) for each, count in near
        ),
    )


def hiding_tokens(model: StepTimeModel) -> int | None:
    """The least tokens whose arithmetic takes as long as reading the weights, at the peak rates."""
    sizes, machine = model.sizes, model.machine
    token = sizes.flops_per_token / machine.flops_per_second

    def hides(tokens: int) -> bool:
        return tokens * token >= weights_read(tokens, sizes) / machine.bandwidth

    found = bisect_left(range(1, MOST + 1), True, key=hides)
    return None if found == MOST else found + 1
