"""Token ids to text as they come, one stream at a time.

The pieces of text joined are the text of the whole, for any split of any sequence: bytes that do
not yet make a character are held until they do, and every token is looked at once.
"""

from __future__ import annotations

import codecs
from collections.abc import Iterable

from headway.text.tokenizer import Tokenizer


class Detokenizer:
    """Turns generated tokens into text.

    `prompt_tail_ids` are the prompt's last tokens (all of it will do): they settle whether the
    first generated token begins a text, and complete a character that the prompt left open.
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        prompt_tail_ids: Iterable[int] = (),
        skip_special_tokens: bool = True,
    ) -> None:
        self._bytes_of = tokenizer.token_bytes
        self._skipped = tokenizer.special_ids if skip_special_tokens else frozenset()
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        self._strip_space = tokenizer.config.add_space_prefix
        self.push(prompt_tail_ids)

    def push(self, tokens: Iterable[int]) -> str:
        """The text that these tokens complete; may be empty."""
        raw = b"".join(self._bytes_of(token) for token in tokens if token not in self._skipped)
        if self._strip_space and raw:
            raw = raw.removeprefix(b" ")
            self._strip_space = False
        return self._decoder.decode(raw)

    def flush(self) -> str:
        """What is still held at the end: U+FFFD where a character was left open."""
        text = self._decoder.decode(b"", final=True)
        self._decoder.reset()
        return text
