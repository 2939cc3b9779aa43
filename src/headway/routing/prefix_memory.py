"""Which prefixes an engine probably has in its KV cache: those that it was sent, bounded like it.

The cache drops what was used longest ago, and of a prompt its end first. So does this memory, which
notes the prefixes of a prompt from the longest to the shortest: whoever has a prefix has all that
it begins with, and the longest known one is found by halving.
"""

from __future__ import annotations

from collections.abc import Sequence

from headway.routing.request import PromptPrefix

MOST_PREFIXES = 1 << 16
"""Of one engine; beyond, and beyond its room in tokens, the least recently used are forgotten."""


class PrefixMemory:
    """Names by how recently they were used; `room` is in tokens."""

    def __init__(self, room: int) -> None:
        self.room = room
        self.tokens = 0
        """Of all prefixes that are known, what they share counted once."""
        self._own: dict[bytes, int] = {}
        """How many tokens each adds to the one before it; the least recently used first."""

    def __len__(self) -> int:
        return len(self._own)

    def known(self, prefixes: Sequence[PromptPrefix]) -> int:
        """Tokens of the longest prefix that is known; 0 where none is. Changes nothing."""
        own = self._own
        if not prefixes or prefixes[0][0] not in own:  # by place: half as dear as by name
            return 0
        low, high = 0, len(prefixes)
        while high - low > 1:
            middle = (low + high) >> 1
            if prefixes[middle][0] in own:
                low = middle
            else:
                high = middle
        return prefixes[low].tokens

    def note(self, prefixes: Sequence[PromptPrefix]) -> None:
        """A prompt with these prefixes, from the shortest to the longest, was sent."""
        own = self._own
        for place in range(len(prefixes) - 1, -1, -1):
            name, end = prefixes[place]
            added = end - (prefixes[place - 1].tokens if place else 0)
            self.tokens += added - own.pop(name, 0)
            own[name] = added
        while own and (self.tokens > self.room or len(own) > MOST_PREFIXES):
            self.tokens -= own.pop(next(iter(own)))
