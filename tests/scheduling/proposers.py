"""Proposers of drafts that are right, wrong, or anything between."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence as Seq
from dataclasses import dataclass
from random import Random

from headway.scheduling.drafts import Guess, Wanted
from headway.types import Request
from tests.scheduling.fake_runner import VOCABULARY, reference


class OneByOne(ABC):
    """Guesses for each sequence alone, at no cost."""

    @property
    def source(self) -> str:
        return "test"

    @property
    def seconds(self) -> float:
        return 0.0

    def may_propose(self, request: Request) -> bool:
        return True

    def cost(self, width: int) -> float:
        return 0.0

    def propose(self, wanted: Seq[Wanted]) -> list[Guess]:
        return [Guess(self.guess(*each)) for each in wanted]

    def forget(self, request_id: str) -> None:
        return  # it keeps nothing

    @abstractmethod
    def guess(self, request: Request, tokens: Seq[int], most: int) -> Seq[int]:
        """What may follow the tokens."""


@dataclass(frozen=True)
class Guesser(OneByOne):
    """Proposes a random number of drafts, of which a random number is right."""

    seed: int

    def guess(self, request: Request, tokens: Seq[int], most: int) -> Seq[int]:
        random = Random(f"{self.seed} {request.id} {len(tokens)}")
        made = len(tokens) - len(request.prompt)
        truth = reference(request.prompt, max_tokens=made + most, seed=request.sampling.seed)
        guess = truth[made : made + random.randint(0, most)]
        right = random.randint(0, len(guess))
        return guess[:right] + [(token + 1) % VOCABULARY for token in guess[right:]]


@dataclass(frozen=True)
class Fixed(OneByOne):
    """Proposes always the same."""

    drafts: tuple[int, ...]

    def guess(self, request: Request, tokens: Seq[int], most: int) -> Seq[int]:
        return self.drafts


@dataclass(frozen=True)
class Picky(Fixed):
    """For requests of an even seed alone; it would fail for others."""

    def may_propose(self, request: Request) -> bool:
        return request.sampling.seed % 2 == 0

    def guess(self, request: Request, tokens: Seq[int], most: int) -> Seq[int]:
        assert self.may_propose(request), "it is asked about those for which it may have drafts"
        return self.drafts
