"""Tokens that must not come next because of what was generated so far."""

from __future__ import annotations

import numpy as np

from headway.runner.ask import Ask


def bad_endings(ask: Ask) -> list[int]:
    """The last token of each bad word whose other tokens were just generated."""
    generated = ask.generated
    found = []
    for *head, last in ask.sampling.bad_words:
        size = len(head)
        if size <= len(generated) and np.array_equal(generated[len(generated) - size :], head):
            found.append(last)
    return found


def held_stops(ask: Ask) -> list[int]:
    """The stop tokens, until `min_tokens` have been generated."""
    held = len(ask.generated) < ask.sampling.min_tokens
    return list(ask.sampling.stop_token_ids) if held else []
