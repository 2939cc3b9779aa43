"""What sequences may say: which tokens each may get next, as bits.

What follows a sequence's text (a matcher of its grammar, a watch over its reasoning) is made when
it enters, from its parameters alone, and takes in its generated tokens when the next one is to be
sampled; so one that was preempted, moved or resumed stands where it stood. A grammar that cannot be
compiled or followed is an error of its own sequence. Knows no logits: `steps` and the kernels put
the bits to use.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from headway.errors import HeadwayError
from headway.grammar import GrammarCompiler, Matcher, ThinkingWatch
from headway.ops.protocol import Ints
from headway.runner.batch import Mask, NextTokens, RequestState
from headway.types import ResolvedSampling, Vocabulary

TokenTable = Callable[[int], Vocabulary]
"""What the tokens of a model with so many of them stand for."""


class SequenceGrammars:
    """Follows what one engine's sequences say."""

    def __init__(self, tokens: TokenTable | None, vocabulary: int) -> None:
        self.compiler: GrammarCompiler | None = None
        if tokens is not None:
            self.compiler = GrammarCompiler(lambda: tokens(vocabulary))

    def follow(self, state: RequestState) -> None:
        """Follow a sequence that has entered, if it may not say everything."""
        grammar, thinking = state.sampling.structured_outputs, state.sampling.thinking_token_budget
        if grammar is None and thinking is None:
            return
        if self.compiler is None:
            state.matcher = Matcher.failed(_untold(state.sampling))
            return
        try:
            if thinking is not None:
                state.thinking = ThinkingWatch(thinking, self.compiler.vocabulary().tokens)
            if grammar is not None:
                state.matcher = self.compiler.matcher(grammar)
        except HeadwayError as error:
            state.matcher = Matcher.failed(error.message)


def _untold(sampling: ResolvedSampling) -> str:
    asked = "thinking_token_budget" if sampling.structured_outputs is None else "structured_outputs"
    return f"{asked}: this engine was not told its model's tokens"


def next_tokens(
    states: Sequence[RequestState], ahead: Sequence[int] | Ints, vocabulary: int
) -> dict[int, NextTokens]:
    """By number, for each sequence that may not get every token: what may follow `ahead[n]` drafts.

    All tokens may come next where that cannot be told; then the state has an error, or drafts that
    will not be accepted. The end of reasoning waits for a grammar that has no place for it.
    """
    forced = _forced(states, ahead)
    some = [n for n, state in enumerate(states) if state.matcher is not None or n in forced]
    if not some:
        return {}
    masks: Mask = np.full((len(some), -(-vocabulary // 32)), 0xFFFFFFFF, dtype=np.uint32)
    found: dict[int, NextTokens] = {}
    for n, mask in zip(some, masks, strict=True):
        if states[n].matcher is not None:
            _fill(states[n], int(ahead[n]), mask)
        alone = n in forced and _keep_only(mask, forced[n])
        found[n] = NextTokens(mask=mask, forced=alone)
    return found


def _forced(states: Sequence[RequestState], ahead: Sequence[int] | Ints) -> dict[int, int]:
    """The token that ends the reasoning, or goes on to, of each sequence where that is due."""
    found: dict[int, int] = {}
    for n, state in enumerate(states):
        if state.thinking is not None:
            state.thinking.advance(state.tokens[state.prompt_len : state.length])
            token = state.thinking.forced_after(_drafts(state, int(ahead[n])))
            if token is not None:
                found[n] = token
    return found


def _fill(state: RequestState, ahead: int, mask: Mask) -> None:
    """Clear the bits of tokens that the grammar does not have next."""
    matcher = state.matcher
    assert matcher is not None, "only those with a grammar are asked"
    matcher.advance(state.tokens[state.prompt_len : state.length])
    if ahead:
        matcher.fill_after(_drafts(state, ahead), mask.ctypes.data, mask.nbytes)
    else:
        matcher.fill(mask.ctypes.data, mask.nbytes)


def _drafts(state: RequestState, ahead: int) -> list[int]:
    drafts: list[int] = state.tokens[state.length : state.length + ahead].tolist()
    return drafts


def _keep_only(mask: Mask, token: int) -> bool:
    """Clear all bits but this token's; False, and nothing is changed, where that is clear."""
    word, bit = divmod(token, 32)
    if not mask[word] >> bit & 1:
        return False
    mask[:] = 0
    mask[word] = 1 << bit
    return True
