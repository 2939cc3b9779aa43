"""Tokens, their bytes, and the special ones."""

from __future__ import annotations

from pathlib import Path

import pytest

from headway.errors import InvalidRequest, ModelError
from headway.text import Tokenizer
from tests.text.conftest import byte_level, sentencepiece


def test_special_tokens_are_skipped_unless_asked_for() -> None:
    tokenizer = byte_level()
    ids = tokenizer.encode("hell<end><think>")
    assert tokenizer.decode(ids) == "hell<think>"
    assert tokenizer.decode(ids, skip_special_tokens=False) == "hell<end><think>"


def test_a_token_stands_for_bytes() -> None:
    tokenizer = byte_level()
    first, second = tokenizer.encode("é")
    assert tokenizer.token_bytes(first) == b"\xc3"
    assert tokenizer.token_text(first) == "\ufffd"
    assert tokenizer.token_bytes(second) == b"\xa9"
    assert tokenizer.token_text(tokenizer.encode(" w")[0]) == " w"
    assert tokenizer.token_piece(tokenizer.encode(" w")[0]) == "Ġw"
    assert tokenizer.token_piece(10**6) == ""
    assert tokenizer.token_bytes(10**9) == b""
    assert tokenizer.token_bytes(-1) == b""


def test_sentencepiece_spells_spaces_and_bytes_its_own_way() -> None:
    tokenizer = sentencepiece()
    assert tokenizer.token_text(tokenizer.encode("hello")[0]) == " hello"
    assert tokenizer.token_bytes(3 + 0xFF) == b"\xff"


def test_lone_surrogates_are_refused(tokenizer: Tokenizer) -> None:
    with pytest.raises(InvalidRequest, match="not valid Unicode"):
        tokenizer.encode("\ud800")


def test_the_vocabulary_counts_added_tokens() -> None:
    assert byte_level().vocab_size == 262


@pytest.mark.parametrize("damaged", ["tokenizer.json", "text.json"])
def test_a_damaged_folder_is_named(damaged: str, tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_text('{"version": "1.0"}')
    (tmp_path / "text.json").write_text('{"eos_token_ids": [1]}')
    (tmp_path / damaged).write_text("{")
    with pytest.raises(ModelError, match=str(tmp_path)):
        Tokenizer.load(tmp_path)
