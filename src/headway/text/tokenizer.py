"""Text to token ids and back, for a prepared model.

Encoding is the `tokenizers` package's. Decoding is our own and works on bytes: every token stands
for some bytes, a text is the UTF-8 of their concatenation. One definition then serves whole texts,
streams and single tokens alike, at linear cost, whatever the token sequence.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from functools import cached_property
from pathlib import Path

import tokenizers

from headway.codec import parse
from headway.errors import InvalidRequest, ModelError
from headway.types import Vocabulary
from headway.types.model import TextConfig

_LONG = 2048
"""Characters from which encoding leaves the global lock to others."""
_SPACE = "\u2581"
_BYTE = re.compile(r"<0x([0-9A-Fa-f]{2})>\Z")


class Tokenizer:
    """One model's tokenizer. Safe to share between threads."""

    def __init__(self, backend: tokenizers.Tokenizer, config: TextConfig) -> None:
        backend.no_truncation()
        backend.no_padding()
        self.config = config
        self._backend = backend
        added = backend.get_added_tokens_decoder()
        self._added = {token: entry.content for token, entry in added.items()}
        self._special = frozenset(token for token, entry in added.items() if entry.special)
        state = backend.decoder.__getstate__() if backend.decoder is not None else b""
        self._alphabet = _byte_alphabet() if b'"ByteLevel"' in state else None
        self.vocab_size = max(backend.get_vocab().values(), default=-1) + 1

    @classmethod
    def load(cls, folder: Path) -> Tokenizer:
        """Read `tokenizer.json` and `text.json`; raises `ModelError` where they are unusable."""
        try:
            config = parse(TextConfig, (folder / "text.json").read_bytes())
            raw = (folder / "tokenizer.json").read_bytes()
        except (OSError, ValueError) as error:
            raise ModelError(f"{folder}: damaged prepared model: {error}") from error
        try:
            backend = tokenizers.Tokenizer.from_buffer(raw)
        except Exception as error:  # the package raises plain Exception
            raise ModelError(f"{folder / 'tokenizer.json'}: unusable: {error}") from error
        return cls(backend, config)

    @property
    def eos_token_ids(self) -> tuple[int, ...]:
        return self.config.eos_token_ids

    @property
    def special_ids(self) -> frozenset[int]:
        """Tokens that `skip_special_tokens` leaves out of a text."""
        return self._special

    def encode(self, text: str, *, add_special_tokens: bool = True) -> list[int]:
        """Token ids of a text; special tokens spelt out in it are recognised.

        Other threads run meanwhile if the text is long (`encode` of the package holds Python's
        global lock, its batches do not). Raises `InvalidRequest` for a text
        with lone surrogates, which no UTF-8 can hold.
        """
        backend = self._backend
        try:
            if len(text) < _LONG:
                encoded = backend.encode(text, add_special_tokens=add_special_tokens)
            else:
                (encoded,) = backend.encode_batch_fast(
                    [text], add_special_tokens=add_special_tokens
                )
            ids: list[int] = encoded.ids
        except (UnicodeError, TypeError) as error:
            raise InvalidRequest(
                f"the text is not valid Unicode: {error}", field="prompt"
            ) from None
        return ids

    def decode(self, ids: Iterable[int], *, skip_special_tokens: bool = True) -> str:
        """The text of a whole token sequence; bytes that are not UTF-8 become U+FFFD."""
        skipped = self._special if skip_special_tokens else frozenset()
        return self.text_of(self.bytes_of(token for token in ids if token not in skipped))

    def bytes_of(self, ids: Iterable[int]) -> bytes:
        """What the tokens stand for, one after the other."""
        known = self.known_bytes
        return b"".join([known[token] for token in ids])

    def text_of(self, raw: bytes) -> str:
        """The text whose tokens stand for these bytes; see `decode`."""
        if self.config.add_space_prefix:
            raw = raw.removeprefix(b" ")
        return raw.decode("utf-8", errors="replace")

    def token_piece(self, token: int) -> str:
        """One token as the vocabulary spells it ("Ġis", "▁is"); empty for one that it lacks."""
        return self._backend.id_to_token(token) or ""

    def token_bytes(self, token: int) -> bytes:
        """The bytes one token stands for; none for an id that the vocabulary lacks."""
        text = self._added.get(token)
        if text is not None and self._alphabet is not None:
            return text.encode()
        if text is None and 0 <= token < self.vocab_size:
            text = self._backend.id_to_token(token)
        if text is None:
            return b""
        if self._alphabet is not None:
            return _from_alphabet(text, self._alphabet)
        byte = _BYTE.match(text)
        return bytes([int(byte[1], 16)]) if byte else text.replace(_SPACE, " ").encode()

    @cached_property
    def known_bytes(self) -> dict[int, bytes]:
        """`token_bytes` of every token, kept from when it is first asked for."""
        return _KnownBytes(self.token_bytes)

    def vocabulary(self, size: int) -> Vocabulary:
        """What the tokens of a model stand for, of which it has `size`."""
        return Vocabulary(
            tokens=tuple(map(self.token_bytes, range(size))),
            special_ids=tuple(sorted(token for token in self._special if token < size)),
            eos_token_ids=tuple(token for token in self.eos_token_ids if token < size),
            encode=lambda text: self.encode(text, add_special_tokens=False),
        )

    def token_text(self, token: int) -> str:
        """One token as text, for log probabilities; its odd bytes become U+FFFD."""
        return self.known_bytes[token].decode("utf-8", errors="replace")


class _KnownBytes(dict[int, bytes]):
    """Fills itself; holds no more than the vocabulary, since others stand for nothing."""

    def __init__(self, bytes_of: Callable[[int], bytes]) -> None:
        super().__init__()
        self._bytes_of = bytes_of

    def __missing__(self, token: int) -> bytes:
        raw = self._bytes_of(token)
        if raw:
            self[token] = raw
        return raw


def _from_alphabet(text: str, alphabet: dict[str, int]) -> bytes:
    try:
        return bytes(alphabet[character] for character in text)
    except KeyError:
        return text.encode()  # a token that was never spelt in the alphabet stands for itself


def _byte_alphabet() -> dict[str, int]:
    """GPT-2's printable stand-ins for bytes: most stand for themselves, the rest from U+0100."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printable]
    return {
        **{chr(byte): byte for byte in printable},
        **{chr(0x100 + place): byte for place, byte in enumerate(others)},
    }
