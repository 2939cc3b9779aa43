"""A small vocabulary to follow grammars with, and answers drawn from what a matcher allows."""

from __future__ import annotations

from random import Random

import numpy as np

from headway.grammar import GrammarCompiler, Matcher
from headway.types import Grammar, Vocabulary

EOS = 2
SIZE = 288
_PAIRS = ('{"', '":', ', "', '"}', "true", "false", "null", "ab", "[{", "]}", "00", "12", "  ")
TOKENS: tuple[bytes, ...] = (
    *(b"<|zero|>", b"<|one|>", b"<|end|>"),
    *(bytes([byte]) for byte in range(32, 127)),
    *(b"\n", b"\t", b"\r", "é".encode()),
    *(bytes([byte]) for byte in range(128, 256)),
    *(pair.encode() for pair in _PAIRS),
)


def vocabulary(size: int = SIZE) -> Vocabulary:
    """Three special tokens, all bytes of texts, a few longer ones, and some that are nothing.

    A smaller one has the first of them, which do for texts in English.
    """
    tokens = (TOKENS + (b"",) * (size - len(TOKENS)))[:size]
    return Vocabulary(tokens=tokens, special_ids=(0, 1, EOS), eos_token_ids=(EOS,))


def compiler() -> GrammarCompiler:
    return GrammarCompiler(vocabulary)


def token_of(text: str) -> int:
    return TOKENS.index(text.encode())


def text_of(tokens: list[int]) -> str:
    return b"".join(TOKENS[token] for token in tokens if token != EOS).decode()


def allowed(matcher: Matcher) -> list[int]:
    """The tokens that a matcher has next, in order."""
    mask = np.zeros(SIZE // 32, dtype=np.uint32)
    matcher.fill(mask.ctypes.data, mask.nbytes)
    bits = np.unpackbits(mask.astype("<u4").view(np.uint8), bitorder="little")
    found: list[int] = bits.nonzero()[0].tolist()
    return found


def draw(grammar: Grammar, seed: int, *, most: int = 400) -> str | None:
    """A random answer that the grammar allows; None if it has not ended after `most` tokens."""
    random, matcher = Random(seed), compiler().matcher(grammar)
    ending = {token_of(text) for text in ('"', "}", "]", '"}', "]}")} | {EOS}
    tokens: list[int] = []
    while len(tokens) < most:
        options = allowed(matcher)
        assert options, text_of(tokens)
        weights = [30 if token in ending else 1 for token in options]
        tokens += random.choices(options, weights)
        if tokens[-1] == EOS:
            return text_of(tokens)
        matcher.advance(tokens)
        assert matcher.error is None
    return None
