"""Drafts in a simulation: each is right with one probability, whatever stands before it.

A simulation has no text in which anything could be looked up, so how often drafts are right is said
and not found out. Whether a draft is right depends on the seed, the request and the place alone: so
the same simulation gives the same drafts, and how many are computed changes none of them.
"""

from __future__ import annotations

from collections.abc import Sequence as Seq

from headway.perf.sim.requests import STOP, token_of
from headway.scheduling.drafts import Guess, Wanted
from headway.types import Request

_WRONG = STOP
"""No answer goes on with it."""
_MASK = 2**64 - 1


class SimulatedDrafts:
    """A `headway.scheduling.drafts.Proposer` for simulated requests, which costs no time."""

    source = "simulated"
    seconds = 0.0

    def __init__(self, acceptance: float, seed: int) -> None:
        """`acceptance` is the probability that a draft is right where those before it are."""
        self._acceptance = acceptance
        self._seed = seed

    def may_propose(self, request: Request) -> bool:  # noqa: ARG002 - it may for all
        """See `headway.scheduling.drafts.Proposer`."""
        return True

    def cost(self, width: int) -> float:  # noqa: ARG002 - the same for all
        """See `headway.scheduling.drafts.Proposer`."""
        return 0.0

    def propose(self, wanted: Seq[Wanted]) -> list[Guess]:
        """See `headway.scheduling.drafts.Proposer`; as many as are wanted."""
        return [Guess(self._drafts(each)) for each in wanted]

    def forget(self, request_id: str) -> None:
        """See `headway.scheduling.drafts.Proposer`; nothing is kept."""

    def _drafts(self, wanted: Wanted) -> list[int]:
        index, place = wanted.request.sampling.seed, len(wanted.tokens)
        right = 0
        while right < wanted.most and _uniform(self._seed, index, place + right) < self._acceptance:
            right += 1
        return [token_of(index)] * right + [_WRONG] * (wanted.most - right)


def _uniform(seed: int, index: int, place: int) -> float:
    """From 0 to below 1, by splitmix64 (Steele, Lea and Flood, "Fast splittable pseudorandom number
    generators", OOPSLA 2014), which costs a twentieth of a seeded `Random`."""
    mixed = seed * 0xD1342543DE82EF95 + index * 0xDA942042E4DD58B5 + place * 0x9E3779B97F4A7C15
    mixed &= _MASK
    mixed = (mixed ^ mixed >> 30) * 0xBF58476D1CE4E5B9 & _MASK
    mixed = (mixed ^ mixed >> 27) * 0x94D049BB133111EB & _MASK
    return (mixed ^ mixed >> 31) / 2**64
