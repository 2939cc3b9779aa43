"""How many drafts of which sequences a step computes: as many as pay, for each stream.

Each further draft is expected to save a part of a later step, and makes this one longer for
everybody in it. Drafts are taken in the order of their chances to be right, as long as that gives
the streams more tokens a second than steps without any would, and as long as no stream has to wait
for others: one stream's tokens come later by no more than a hundredth, or by what it got ahead of
its time before (`DraftStream.lead`).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from collections.abc import Sequence as Seq
from typing import NamedTuple

from headway.scheduling.speculation.draft_seconds import DraftSeconds, step_class
from headway.steptime.shape import StepShape

SLOWER = 0.01
"""Of a step's time, by which it may be longer for a stream that gains nothing."""
MARGIN = 1.1
"""Times its predicted cost that a draft must be worth, as predictions err."""
LEAST_CHANCE = 0.02
"""To be right, of drafts that are considered."""
SIZES = (1, 2, 3, 4, 5, 6, 8, 10, 12, 16, 24, 32, 48, 64, 96, 128)
"""Numbers of drafts that are compared: the best number is broad, and more never pay."""


class DraftStream(NamedTuple):
    """A sequence that decodes in the step."""

    start: int
    """Tokens whose keys and values are stored."""
    chances: Seq[float] = ()
    """That its first draft is right, its first two, and so on; none where it has no drafts."""
    lead: float = 0.0
    """By how many steps without drafts it is ahead of a stream that never had any; negative where
    it is behind."""
    constrained: bool = False
    """It has a grammar."""


class StepOutlook(NamedTuple):
    """A step that is planned but for its drafts; see `outlook_of`."""

    shape: StepShape
    """Without drafts."""
    seconds: DraftSeconds
    streams: int
    """How many sequences decode."""
    plain: float
    """Seconds without drafts."""
    alone: float
    """Seconds of its decodes alone: what the streams' tokens cost when nothing else is computed."""
    most_tokens: int
    """Most drafts in all."""
    most_seconds: float = math.inf
    """That the step may take at most, nearly certainly."""
    find: Callable[[int], float] | None = None
    """Seconds to find a further draft for each of so many sequences; None where there is nothing
    to find any more."""


class DraftChoice(NamedTuple):
    """How many drafts each stream gets, in their order, and what that does to the step."""

    counts: Seq[int]
    plain: float = 0.0
    """Seconds without drafts."""
    further: float = 0.0
    """Seconds that they add."""
    shape: StepShape = StepShape()
    """With the drafts, if there are any."""


def outlook_of(
    shape: StepShape, decodes: StepShape, seconds: DraftSeconds, most_tokens: int
) -> StepOutlook:
    """The outlook of a step; `decodes` is the shape of its decodes alone, the same object where
    there is nothing else."""
    plain = seconds.plain(shape)
    alone = plain if decodes is shape else seconds.plain(decodes)
    return StepOutlook(shape, seconds, decodes.decodes, plain, alone, most_tokens)


def may_pay(outlook: StepOutlook, start: int, *, constrained: bool) -> bool:
    """Whether one draft of the decode from position `start` could pay, were it surely right.

    Cheap: most steps are too wide, and then nothing else needs to be looked at.
    """
    seconds, streams, plain = outlook.seconds, outlook.streams, outlook.plain
    drafted = outlook.shape.with_drafts(start, 1, seconds.times.window)
    kind = step_class(streams, constrained=constrained)
    further = seconds.further(plain, drafted, 1, kind, alone=outlook.alone)
    further += 0.0 if outlook.find is None else outlook.find(1)
    if outlook.shape.sequences > streams and further > SLOWER * plain:
        return False
    return MARGIN * further * streams < outlook.alone


def choose(outlook: StepOutlook, streams: Seq[DraftStream], *, usual: int = 1) -> DraftChoice:
    """The number of drafts that gives the streams the most tokens a second; none if none pay.

    It is looked for from `usual` on, upwards and else downwards, as long as it gets better.
    """
    trial = _Trial(outlook, streams)
    most = len(trial.rows)
    sizes = [size for size in SIZES if size < most]
    sizes += [most] if most else []
    first = next((at for at, size in enumerate(sizes) if size >= usual), len(sizes) - 1)
    for size in sizes[first:]:
        if not trial.improves(size):
            break
    if trial.at is None or trial.at == sizes[first]:
        for size in reversed(sizes[:first]):
            if not trial.improves(size) and trial.at is not None:
                break
    if trial.best is None:
        return DraftChoice([0] * len(streams), outlook.plain)
    return trial.best


def probe(outlook: StepOutlook, streams: Seq[DraftStream]) -> DraftChoice:
    """The likeliest draft, to see what it costs though it does not seem to pay; none where somebody
    else would be delayed too long by it."""
    trial = _Trial(outlook, streams)
    if trial.rows:
        choice, _ = trial.with_drafts(1)
        gains = [math.inf if count else 0.0 for count in choice.counts]
        if trial.allowed(choice, gains):
            return choice
    return DraftChoice([0] * len(streams), outlook.plain)


class _Trial:
    """Tries numbers of drafts in one step, and keeps the best one that is allowed."""

    def __init__(self, outlook: StepOutlook, streams: Seq[DraftStream]) -> None:
        self._outlook = outlook
        self._streams = streams
        self.rows = sorted(
            [
                (-chance, number, place)
                for number, stream in enumerate(streams)
                for place, chance in enumerate(stream.chances)
            ]
        )[: outlook.most_tokens]
        """The drafts, likeliest first: chance, negated, stream, and place in it."""
        self.best: DraftChoice | None = None
        self.at: int | None = None
        """Its number of drafts."""
        self._rate = 0.0
        """Its tokens a second."""

    def improves(self, size: int) -> bool:
        """Whether so many drafts are worth looking further from: better than those before, or more
        than somebody may be delayed for, which others may be that gain themselves."""
        choice, gains = self.with_drafts(size)
        outlook = self._outlook
        width, gain, cost = len(gains), sum(gains), MARGIN * choice.further
        if cost * width >= gain * outlook.alone:
            return False  # without any there would be more tokens a second
        rate = (width + gain) / (outlook.alone + cost)
        if rate <= self._rate:
            return False
        if self.allowed(choice, gains):
            self._rate, self.at, self.best = rate, size, choice
        return True

    def with_drafts(self, size: int) -> tuple[DraftChoice, list[float]]:
        """The step with so many drafts, and what each stream gains by them, in tokens."""
        streams, outlook = self._streams, self._outlook
        counts, gains = [0] * len(streams), [0.0] * len(streams)
        for chance, number, place in self.rows[:size]:
            counts[number] = place + 1
            gains[number] -= chance
        shape, constrained = outlook.shape, False
        window = outlook.seconds.times.window
        for stream, count in zip(streams, counts, strict=True):
            if count:
                shape = shape.with_drafts(stream.start, count, window)
                constrained = constrained or stream.constrained
        kind = step_class(len(streams), constrained=constrained)
        further = outlook.seconds.further(outlook.plain, shape, size, kind, alone=outlook.alone)
        if outlook.find is not None:
            further += seconds_to_find(outlook.find, counts)
        return DraftChoice(counts, outlook.plain, further, shape), gains

    def allowed(self, choice: DraftChoice, gains: Seq[float]) -> bool:
        """Whether nobody has to wait too long."""
        outlook, streams = self._outlook, self._streams
        share = choice.further / outlook.plain
        if share > SLOWER:
            if outlook.shape.sequences > len(streams):
                return False  # prompts are computed too, and gain nothing
            for stream, gain in zip(streams, gains, strict=True):
                if share > SLOWER + gain + max(stream.lead, 0.0):
                    return False
        if outlook.most_seconds == math.inf:
            return True
        times = outlook.seconds.times
        # By how much a step exceeds its prediction is known of the model's own.
        over = (outlook.plain + choice.further) / times.predict(choice.shape)
        return times.bound(choice.shape) * max(1.0, over) <= outlook.most_seconds


def seconds_to_find(find: Callable[[int], float], counts: Seq[int]) -> float:
    """Seconds to find so many drafts: each pass finds one for all that still want one."""
    return sum(
        [find(sum([count > done for count in counts])) for done in range(max(counts, default=0))]
    )
