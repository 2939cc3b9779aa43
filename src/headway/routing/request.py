"""The shape of a request: all that a router may know of it.

The prefixes of a prompt have names, so that a router sees what prompts have in common without
keeping any of them. A name is a digest of all tokens up to some place; the places are the same for
all prompts and lie the farther apart the farther they are from the beginning: few names tell how
much two prompts share, to an eighth. Naming reads each token once.
"""

from __future__ import annotations

import math
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import NamedTuple

from headway.types import Request
from headway.types.block_hash import DIGEST_BYTES
from headway.types.objectives import NO_PACE, Pace, pace_of

SHORTEST_PREFIX = 64
"""Tokens; what prompts share less of is no reason to go anywhere."""
LONGEST_PREFIX = 1 << 17
"""Tokens; what lies beyond is not named."""


class PromptPrefix(NamedTuple):
    """A beginning of prompts: equal names, equal tokens, everywhere."""

    name: bytes
    tokens: int
    """Its length."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestShape:
    """What a router may know of a request. Times are seconds on the clock of whoever routes."""

    id: str = ""
    """Unique among the requests that one engine has at a time."""
    at: float = 0.0
    """When it is routed."""
    prompt_tokens: int
    """With what was generated elsewhere, where it was moved."""
    max_tokens: int
    """Tokens that it may generate at most."""
    prefixes: Sequence[PromptPrefix] = ()
    """Beginnings of the prompt, all shorter than it, from the shortest to the longest."""
    begun: bool = False
    """It has had its first token elsewhere, and goes on."""
    loaded_tokens: int = 0
    """Of its prompt, those whose keys and values are loaded from where it was, not computed."""
    pace: Pace = NO_PACE
    """What its objectives ask; its first token is due `pace.ttft` after `at`."""


def shape_of(request: Request, now: float, *, named: bool = True) -> RequestShape:
    """The shape of a request that is routed `now`.

    Without `named`, as for engines that cache no prefixes, it has none. Of one that has waited
    before, what is left of the time to its first token counts; one that has had that token, and is
    moved, has nothing to be late for.
    """
    prompt = (*request.prompt, *request.generated) if request.generated else request.prompt
    pace = pace_of(request.objectives)
    if pace.ttft < math.inf:
        left = math.inf if request.generated else pace.ttft - max(0.0, now - request.arrival)
        pace = Pace(ttft=max(0.0, left), tpot=pace.tpot, itl=pace.itl, e2el=pace.e2el)
    return RequestShape(
        id=request.id,
        at=now,
        prompt_tokens=len(prompt),
        max_tokens=max(0, request.sampling.max_tokens - len(request.generated)),
        prefixes=prompt_prefixes(prompt, request.cache_salt) if named else (),
        begun=bool(request.generated),
        pace=pace,
    )


def prompt_prefixes(prompt: Sequence[int], salt: str = "") -> list[PromptPrefix]:
    """Names of the prompt's beginnings; those of another `salt` share none. Ids are below 2**63."""
    digest = blake2b(salt.encode(), digest_size=DIGEST_BYTES).digest()
    found, begin = [], 0
    for end in prefix_lengths(len(prompt)):
        content = array("q", prompt[begin:end]).tobytes()
        digest = blake2b(digest + content, digest_size=DIGEST_BYTES).digest()
        found.append(PromptPrefix(digest, end))
        begin = end
    return found


def prefix_lengths(tokens: int) -> Iterator[int]:
    """Lengths of the prefixes that are named, all below `tokens`: eight between each length and
    twice as much, once they are that far apart."""
    end = SHORTEST_PREFIX
    while end < min(tokens, LONGEST_PREFIX + 1):
        yield end
        end += max(SHORTEST_PREFIX, 1 << max(0, end.bit_length() - 4))
