"""Prompts become token ids: as many of them as are to be kept, and none that cannot fit."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from headway.errors import InvalidRequest, RequestTooLarge
from headway.llm.prompt import MAX_TOKEN_CHARACTERS, TokensPrompt, encode_prompt
from headway.text import Tokenizer
from tests.llm.support import write_prepared


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    folder = tmp_path_factory.mktemp("model")
    write_prepared(folder)
    return Tokenizer.load(folder)


def encode(tokenizer: Tokenizer, prompt: Any, **options: Any) -> TokensPrompt:
    return asyncio.run(encode_prompt(tokenizer, prompt, max_model_len=8, **options))


def test_a_text_keeps_its_text_and_token_ids_have_none(tokenizer: Tokenizer) -> None:
    prompt = encode(tokenizer, "ab")
    assert (list(prompt.token_ids), prompt.text) == (tokenizer.encode("ab"), "ab")
    assert encode(tokenizer, [1, 2]) == TokensPrompt(token_ids=(1, 2))


@pytest.mark.parametrize(("keep", "kept"), [(2, [8, 9]), (20, range(10)), (-1, range(3, 10))])
def test_the_last_tokens_are_kept(tokenizer: Tokenizer, keep: int, kept: Any) -> None:
    assert encode(tokenizer, range(10), truncate_to=keep).token_ids == tuple(kept)


@pytest.mark.parametrize("keep", [0, -2])
def test_no_such_number_of_tokens(tokenizer: Tokenizer, keep: int) -> None:
    with pytest.raises(InvalidRequest) as caught:
        encode(tokenizer, "a", truncate_to=keep)
    assert caught.value.field == "truncate_prompt_tokens"


def test_a_text_that_cannot_fit_is_not_encoded(tokenizer: Tokenizer) -> None:
    text = "x" * (8 * MAX_TOKEN_CHARACTERS + 1)
    with pytest.raises(RequestTooLarge, match="cannot fit"):
        encode(tokenizer, text)
    assert len(encode(tokenizer, text, truncate_to=3).token_ids) == 3
