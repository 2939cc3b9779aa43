"""What a model's text is made of besides its tokenizer: special tokens and the chat template.

Written once when a model is prepared, read back at every start. Whoever converts a model and
whoever encodes text share only this; it knows neither files nor tokenizers.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class TextConfig:
    """The special tokens of a model and how its prompts are framed.

    `eos_token_ids` are all tokens that end an answer: the model's own end of sequence first, then
    its end-of-turn tokens. `bos_token` and its like are spelt as chat templates need them.
    """

    eos_token_ids: tuple[int, ...]
    bos_token_id: int | None = None
    pad_token_id: int | None = None
    unk_token_id: int | None = None
    bos_token: str = ""
    eos_token: str = ""
    pad_token: str = ""
    unk_token: str = ""
    add_bos: bool = False
    """Encoding with special tokens puts `bos_token_id` first."""
    add_eos: bool = False
    """Encoding with special tokens puts the first of `eos_token_ids` last."""
    add_space_prefix: bool = False
    """The tokenizer puts a space before a text's first word, and decoding takes it away."""
    chat_template: str | None = None
    """A Jinja template; None for a model that does not chat."""
