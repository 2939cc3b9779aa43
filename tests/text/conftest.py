"""Two small tokenizers of the two kinds: byte-level, and sentencepiece with byte fallback."""

from __future__ import annotations

import pytest
from tokenizers import AddedToken, decoders, models, normalizers, pre_tokenizers
from tokenizers import Tokenizer as Backend

from headway.text import TextConfig, Tokenizer


def byte_level() -> Tokenizer:
    """A token per byte, some merges, and two special tokens."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    merges = [("h", "e"), ("Ġ", "w"), ("l", "l"), ("he", "ll")]
    words = [*alphabet, *(left + right for left, right in merges)]
    backend = Backend(models.BPE({word: i for i, word in enumerate(words)}, merges))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    backend.add_special_tokens([AddedToken("<end>", special=True)])
    backend.add_tokens([AddedToken("<think>", special=False)])
    return Tokenizer(backend, TextConfig(eos_token_ids=(260,)))


def sentencepiece() -> Tokenizer:
    """Letters, words with their space, all bytes, and a space put before every text."""
    words = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256))]
    words += ["▁", "h", "e", "l", "o", "he", "▁he", "ll", "▁hell", "▁hello", "é", "▁▁"]
    merges = [("h", "e"), ("▁", "he"), ("l", "l"), ("▁he", "ll"), ("▁hell", "o"), ("▁", "▁")]
    backend = Backend(
        models.BPE(
            {word: i for i, word in enumerate(words)},
            merges,
            unk_token="<unk>",
            fuse_unk=True,
            byte_fallback=True,
        )
    )
    backend.normalizer = normalizers.Sequence(
        [normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]
    )
    backend.decoder = decoders.Sequence(
        [
            decoders.Replace("▁", " "),
            decoders.ByteFallback(),
            decoders.Fuse(),
            decoders.Strip(" ", 1, 0),
        ]
    )
    backend.add_special_tokens([AddedToken(word, special=True) for word in words[:3]])
    config = TextConfig(eos_token_ids=(2,), bos_token_id=1, bos_token="<s>", add_space_prefix=True)
    return Tokenizer(backend, config)


@pytest.fixture(params=[byte_level, sentencepiece])
def tokenizer(request: pytest.FixtureRequest) -> Tokenizer:
    made: Tokenizer = request.param()
    return made
