"""Grammars of sequences: which tokens each may get next, as bits.

A sequence's matcher is made when it enters, from its grammar alone, and takes in its generated
tokens when the next one is to be sampled; so one that was preempted, moved or resumed stands where
it stood. A grammar that cannot be compiled or followed is an error of its own sequence. Knows no
logits: `steps` and the kernels put the bits to use.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from headway.errors import HeadwayError
from headway.grammar import GrammarCompiler, Matcher
from headway.ops.protocol import Ints
from headway.runner.batch import Mask, RequestState
from headway.types import ResolvedSampling, Vocabulary

TokenTable = Callable[[int], Vocabulary]
"""What the tokens of a model with so many of them stand for."""


class SequenceGrammars:
    """Makes the matchers of one engine's sequences."""

    def __init__(self, tokens: TokenTable | None, vocabulary: int) -> None:
        self.compiler: GrammarCompiler | None = None
        if tokens is not None:
            self.compiler = GrammarCompiler(lambda: tokens(vocabulary))

    def matcher(self, sampling: ResolvedSampling) -> Matcher | None:
        """At the beginning of an answer; None for one that may be anything."""
        grammar = sampling.structured_outputs
        if grammar is None:
            return None
        if self.compiler is None:
            return Matcher.failed("structured_outputs: this engine was not told its model's tokens")
        try:
            return self.compiler.matcher(grammar)
        except HeadwayError as error:
            return Matcher.failed(error.message)


def grammar_masks(
    states: Sequence[RequestState], ahead: Sequence[int] | Ints, vocabulary: int
) -> dict[int, Mask]:
    """By number, for each sequence with a grammar: what it may get after `ahead[n]` drafts.

    All tokens may come next where that cannot be told; then the state has an error, or drafts that
    will not be accepted.
    """
    some = [n for n, state in enumerate(states) if state.matcher is not None]
    if not some:
        return {}
    masks: Mask = np.full((len(some), -(-vocabulary // 32)), 0xFFFFFFFF, dtype=np.uint32)
    for n, mask in zip(some, masks, strict=True):
        state, drafts = states[n], int(ahead[n])
        matcher = state.matcher
        assert matcher is not None, "only these were chosen"
        known = state.tokens[state.prompt_len : state.length]
        matcher.advance(known)
        if drafts:
            following = state.tokens[state.length : state.length + drafts].tolist()
            matcher.fill_after(following, mask.ctypes.data, mask.nbytes)
        else:
            matcher.fill(mask.ctypes.data, mask.nbytes)
    return dict(zip(some, masks, strict=True))
