"""Drafts: guesses at how sequences go on, and who makes them.

Where they come from is a proposer's own affair; see `headway.scheduling.speculation` for what
becomes of them. Right or wrong, no draft changes a token.
"""

from __future__ import annotations

from collections.abc import Sequence as Seq
from typing import NamedTuple, Protocol

from headway.types import Request


class Wanted(NamedTuple):
    """A sequence that is about to decode, and how many drafts are wanted for it."""

    request: Request
    tokens: Seq[int]
    """All that are known, prompt and generated. They must not be changed, and will be longer in the
    next step."""
    most: int
    """Most drafts: at least 1."""


class Guess(NamedTuple):
    """How a sequence may go on."""

    tokens: Seq[int] = ()
    """Of the model's vocabulary. Empty: no guess; more than were wanted are cut off."""
    kind: str = ""
    """Guesses of one proposer and one kind are right about as often: whoever decides how many
    drafts pay learns by it. There must be few kinds."""


class Proposer(Protocol):
    """Guesses how sequences go on."""

    @property
    def source(self) -> str:
        """A name for people and for what is learned, such as "ngram"."""
        ...

    @property
    def seconds(self) -> float:
        """What the last `propose` took: 0.0 where that is next to nothing beside a step. It is not
        learned as the step's own time."""
        ...

    def may_propose(self, request: Request) -> bool:
        """Whether there may ever be drafts for a request; the others are not asked about."""
        ...

    def cost(self, width: int) -> float:
        """Seconds that it takes to find one further draft for each of `width` sequences together;
        0.0 where that is next to nothing beside a step. It decides how many drafts are wanted."""
        ...

    def propose(self, wanted: Seq[Wanted]) -> Seq[Guess]:
        """A guess for each of a step's sequences, in their order. Right or wrong, no guess changes
        a token. An empty one is no wrong one; nothing is raised for any one of them."""
        ...

    def forget(self, request_id: str) -> None:
        """Nothing is asked about a request any more, or not for long: it has ended, was aborted, or
        was preempted. What is kept of it can go. It may be unknown."""
        ...
