"""How likely drafts are right: learned from those that were, by kind, of each sequence and of all.

Where an answer copies a text, one draft after the other is right, and elsewhere none is. So there
are two chances: that the first draft is right, and that each further one is once those before it
were. Each is estimated as the mean of a Beta distribution: that of a sequence has the one of all
sequences as its prior. What was seen long ago counts less, as texts change; and of kinds that are
no longer tried, what was seen fades until they are tried again.
"""

from __future__ import annotations

UNKNOWN_FIRST, UNKNOWN_FURTHER = 0.5, 0.7
"""Chances before anything was seen of a kind."""
UNKNOWN = {"draft_model": (0.8, 0.8)}
"""The same of sources of which more is known beforehand: somebody chose a draft model because it is
like the model, and before it has read a prompt there is nothing to learn from."""
UNKNOWN_WEIGHT = 3.0
"""As many drafts as that counts for."""
ALL_WEIGHT = 4.0
"""As many drafts as what is known of all sequences counts for in each of them."""
ALL_MEMORY, OWN_MEMORY = 256.0, 32.0
"""About how many drafts are remembered."""
ALL_FADES, OWN_FADES = 1 / 4096, 1 / 256
"""Share that is forgotten each time that a kind is found and not tried."""


class _Chance:
    """How often something came true."""

    __slots__ = ("_memory", "right", "seen")

    def __init__(self, memory: float) -> None:
        self._memory = memory
        self.right = 0.0
        self.seen = 0.0

    def learn(self, right: int, seen: int) -> None:
        self.fade(seen / self._memory)
        self.right += right
        self.seen += seen

    def fade(self, share: float) -> None:
        kept = max(0.0, 1.0 - share)
        self.right *= kept
        self.seen *= kept

    def estimate(self, prior: float, weight: float) -> float:
        return (self.right + weight * prior) / (self.seen + weight)


class _Chances:
    """Of the first draft, and of those after it."""

    __slots__ = ("_fades", "first", "further")

    def __init__(self, memory: float, fades: float) -> None:
        self._fades = fades
        self.first = _Chance(memory)
        self.further = _Chance(memory)

    def learn(self, drafts: int, accepted: int) -> None:
        self.first.learn(accepted > 0, 1)
        if accepted:
            # One that is wrong ends it: nothing is known of those behind it.
            self.further.learn(accepted - 1, min(accepted, drafts - 1))

    def fade(self) -> None:
        self.first.fade(self._fades)
        self.further.fade(self._fades)


Kind = tuple[str, str]
"""A proposer's source, and its kind of guess."""


OwnChances = dict[Kind, _Chances]
"""What was seen of one sequence."""


class Acceptance:
    """What is known of all sequences; whoever has a sequence keeps its `OwnChances`."""

    def __init__(self) -> None:
        self._all: dict[Kind, _Chances] = {}

    def chances(
        self, own: OwnChances, kind: Kind, count: int, *, least: float = 0.0
    ) -> list[float]:
        """That the first draft is right, that the first two are, and so on up to `count`, as long
        as they are `least`.
        """
        first, further = UNKNOWN.get(kind[0], (UNKNOWN_FIRST, UNKNOWN_FURTHER))
        everyone, one = self._all.get(kind), own.get(kind)
        if everyone is not None:
            first = everyone.first.estimate(first, UNKNOWN_WEIGHT)
            further = everyone.further.estimate(further, UNKNOWN_WEIGHT)
        if one is not None:
            first = one.first.estimate(first, ALL_WEIGHT)
            further = one.further.estimate(further, ALL_WEIGHT)
        found: list[float] = []
        chance = first
        while chance >= least and len(found) < count:
            found.append(chance)
            chance *= further
        return found

    def learn(self, own: OwnChances, kind: Kind, drafts: int, accepted: int) -> None:
        """Of so many drafts (at least 1), the first `accepted` were right and no more."""
        for chances in self._both(own, kind):
            chances.learn(drafts, accepted)

    def untried(self, own: OwnChances, kind: Kind) -> None:
        """There was a guess, and none of it was computed."""
        for chances in self._both(own, kind):
            chances.fade()

    def _both(self, own: OwnChances, kind: Kind) -> tuple[_Chances, _Chances]:
        everyone = self._all.get(kind)
        if everyone is None:
            everyone = self._all[kind] = _Chances(ALL_MEMORY, ALL_FADES)
        one = own.get(kind)
        if one is None:
            one = own[kind] = _Chances(OWN_MEMORY, OWN_FADES)
        return everyone, one
