"""Grammars compiled for one model's vocabulary, and where one answer stands in its grammar.

A `Matcher` is a function of its grammar and the tokens it was given, whatever steps they came in.
Compiling is bounded by llguidance's own limits, which count work and not time, so that what one
process could compile another can as well.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

from headway.errors import InvalidRequest
from headway.grammar.translate import invalid, translate
from headway.types import Grammar, Vocabulary, special_token_name
from headway.types.grammar import GRAMMAR_ERROR

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    from llguidance import LLMatcher, LLParserLimits, LLTokenizer

MAX_COMPILED = 64
"""Grammars that are kept compiled."""
MAX_COMPILED_CHARACTERS = 2**19
"""Of their texts together; what is compiled takes some hundred times as many bytes at worst."""
MAX_FORCED = 256
"""Bytes without a choice that are made tokens of at once."""
MAX_REASON = 400
"""Characters of an error that are told."""


class GrammarCompiler:
    """Compiles grammars for one vocabulary, which is asked for on first use. For any thread."""

    def __init__(self, vocabulary: Callable[[], Vocabulary]) -> None:
        self._read_vocabulary = vocabulary
        self._vocabulary: Vocabulary | None = None
        self._tokenizer: LLTokenizer | None = None
        self._compiling = threading.Lock()
        """Held while a grammar is compiled, which may take a while."""
        self._lock = threading.Lock()
        """Of those that are kept; never held for long, so who asks for one of them need not wait
        until another one is compiled."""
        self._compiled: OrderedDict[Grammar, LLMatcher | InvalidRequest] = OrderedDict()
        """The latest used last; none of them was given a token. An error where it has one."""
        self._characters = 0

    @property
    def has_vocabulary(self) -> bool:
        """Whether the vocabulary was read, so that asking for it takes no time."""
        return self._vocabulary is not None

    def vocabulary(self) -> Vocabulary:
        """What the tokens stand for."""
        if self._vocabulary is None:
            with self._compiling:
                return self._known_vocabulary()
        return self._vocabulary

    def has(self, grammar: Grammar) -> bool:
        """Whether it was compiled, or could not be, so that asking for it takes no time."""
        return grammar in self._compiled

    def check(self, grammar: Grammar) -> None:
        """Raise `InvalidRequest` for what cannot be compiled."""
        self.matcher(grammar)

    def matcher(self, grammar: Grammar) -> Matcher:
        """At the beginning of a text. Raises `InvalidRequest` for what cannot be compiled."""
        found = self._copy(grammar)
        if found is not None:
            return found
        with self._compiling:
            found = self._copy(grammar)  # another thread may have asked for the same
            if found is None:
                self._keep(grammar, self._compile_or_error(grammar))
                found = self._copy(grammar)
        assert found is not None, "the latest one is kept"
        return found

    def _copy(self, grammar: Grammar) -> Matcher | None:
        """Of one that is kept; raises its error where it has one."""
        with self._lock:
            compiled = self._compiled.get(grammar)
            if compiled is None:
                return None
            self._compiled.move_to_end(grammar)
            if isinstance(compiled, InvalidRequest):
                raise InvalidRequest(compiled.message, field=compiled.field)
            return Matcher(compiled.deep_copy())

    def _keep(self, grammar: Grammar, compiled: LLMatcher | InvalidRequest) -> None:
        with self._lock:
            self._compiled[grammar] = compiled
            self._characters += len(grammar.text)
            self._forget_some()

    def _forget_some(self) -> None:
        """The oldest ones, until the rest is within the bounds; never the latest."""
        while len(self._compiled) > 1 and (
            len(self._compiled) > MAX_COMPILED or self._characters > MAX_COMPILED_CHARACTERS
        ):
            forgotten, _ = self._compiled.popitem(last=False)
            self._characters -= len(forgotten.text)

    def _known_vocabulary(self) -> Vocabulary:
        """Read on first use; `_compiling` is held."""
        if self._vocabulary is None:
            self._vocabulary = self._read_vocabulary()
        return self._vocabulary

    def _compile_or_error(self, grammar: Grammar) -> LLMatcher | InvalidRequest:
        try:
            return self._compile(grammar)
        except InvalidRequest as error:
            return error

    def _compile(self, grammar: Grammar) -> LLMatcher:
        from llguidance import LLMatcher

        text = translate(grammar)
        if self._tokenizer is None:
            self._tokenizer = _tokenizer(self._known_vocabulary())
        compiled = LLMatcher(self._tokenizer, text, log_level=0, limits=_limits())
        reason = compiled.get_error()
        if not reason:
            # Whatever is made when a text begins is made once, for all that use the grammar.
            compiled.compute_bitmask()
            reason = compiled.get_error()
        if reason:
            raise invalid(_readable(reason))
        return compiled


class Matcher:
    """Where one answer stands in its grammar."""

    def __init__(self, state: LLMatcher | None, error: str | None = None) -> None:
        self._state = state
        self._taken = 0
        self.error = error
        """Why it cannot go on; once there is an error, it stays."""

    @classmethod
    def failed(cls, error: str) -> Matcher:
        """Of a grammar that there is none of."""
        return cls(None, error)

    def advance(self, tokens: Sequence[int] | npt.NDArray[np.int64]) -> None:
        """Take in a text's tokens, of which those that it was given before are left out."""
        new = tokens[self._taken :]
        if len(new) and self._state is not None and self.error is None:
            self._state.consume_tokens([int(token) for token in new])
            self._taken = len(tokens)
            self._note_error()

    def fill(self, address: int, size: int) -> None:
        """Write which tokens may come next to memory of `size` bytes, a bit each; see `headway.h`.

        A bit of 32-bit word w, counted from the lowest, is that of token 32 w + bit.
        """
        if self._state is not None and self.error is None:
            self._state.unsafe_compute_mask_ptr(address, size)
            self._note_error()

    def fill_after(self, drafts: Sequence[int], address: int, size: int) -> None:
        """The same after tokens that may turn out not to be the text's.

        After one that the grammar does not have, nothing is written: nobody asks what follows it.
        """
        if self._state is None or self.error is not None:
            return
        taken = self._state.try_consume_tokens(list(drafts))
        if taken == len(drafts):
            self.fill(address, size)
        if taken:
            self._state.rollback(taken)

    def forced(self) -> list[int]:
        """The tokens that must come next, one after the other, as far as there is no choice.

        They are those that `fill` would leave alone; where the text may end, there are none.
        """
        if self._state is None or self.error is not None:
            return []
        tokens: list[int] = self._state.compute_ff_tokens()
        self._note_error()
        return tokens

    def _note_error(self) -> None:
        if self._state is not None and self._state.is_error():
            self.error = GRAMMAR_ERROR + _readable(self._state.get_error())


def _readable(reason: str) -> str:
    """An error of llguidance, as far as it tells a caller something."""
    reason = reason.partition("\n<non-verbose/>")[0]
    if reason.startswith("NoExtension"):
        return "nothing can match it"
    return reason[:MAX_REASON]


def _limits() -> LLParserLimits:
    from llguidance import LLParserLimits

    return LLParserLimits(
        initial_lexer_fuel=50_000,
        step_lexer_fuel=40_000,
        max_lexer_states=50_000,
        verbose_errors=False,
    )


def _tokenizer(vocabulary: Vocabulary) -> LLTokenizer:
    from llguidance import LLTokenizer, TokenizerWrapper

    if not vocabulary.eos_token_ids:
        raise invalid("the model has no token that ends an answer")
    return LLTokenizer(
        TokenizerWrapper(_Tokens(vocabulary)),
        n_vocab=len(vocabulary.tokens),
        eos_token=list(vocabulary.eos_token_ids),
    )


class _Tokens:
    """A vocabulary as llguidance reads it."""

    def __init__(self, vocabulary: Vocabulary) -> None:
        self.tokens = list(vocabulary.tokens)
        for token in vocabulary.special_ids:
            if text := self.tokens[token].decode(errors="replace"):
                self.tokens[token] = special_token_name(text).encode()
        self.special_token_ids = list(vocabulary.special_ids)
        self.eos_token_id = vocabulary.eos_token_ids[0]
        self.bos_token_id = None
        special = set(vocabulary.special_ids)
        texts = enumerate(vocabulary.tokens)
        self._ids = {each: n for n, each in texts if each and n not in special}
        self._longest = max(map(len, self._ids), default=0)
        self._encode = vocabulary.encode

    def __call__(self, text: bytes) -> list[int]:
        """Tokens of text that a grammar leaves no choice in; only their bytes must be right.

        It is asked again at every token, so all but the beginning of a long text can wait.
        """
        text = text[:MAX_FORCED]
        if self._encode is not None:
            found = self._encode(text.decode(errors="replace"))
            if all(self._ids.get(self.tokens[token]) is not None for token in found) and text == (
                b"".join(self.tokens[token] for token in found)
            ):
                return found
        return list(self._greedy(text))

    def _greedy(self, text: bytes) -> Iterator[int]:
        """The longest token first; what no token stands for ends it."""
        place = 0
        while place < len(text):
            for size in range(min(self._longest, len(text) - place), 0, -1):
                token = self._ids.get(text[place : place + size])
                if token is not None:
                    yield token
                    place += size
                    break
            else:
                return
