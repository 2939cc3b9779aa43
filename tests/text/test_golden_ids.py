"""The real models' tokens equal those that transformers makes of the same vocabularies."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from headway.checkpoint import prepare
from headway.text import ChatTemplate, Tokenizer

GOLDEN = json.loads(Path(__file__).with_name("golden_ids.json").read_text())


@pytest.mark.model
@pytest.mark.parametrize("name", ["smollm2-135m-instruct", "gemma-3-270m"])
def test_ids_equal_the_recorded_ones(name: str) -> None:
    tokenizer = Tokenizer.load(prepare(name, dtype="bfloat16", progress=False).folder)
    for text, expected in zip(GOLDEN["texts"], GOLDEN[name], strict=True):
        assert tokenizer.encode(text) == expected, text
        plain = tokenizer.encode(text, add_special_tokens=False)
        shown = text.replace("\u2581", " ") if name.startswith("gemma") else text
        assert tokenizer.decode(plain, skip_special_tokens=False) == shown


@pytest.mark.model
def test_the_default_model_chats() -> None:
    text = prepare("smollm2-135m-instruct", dtype="bfloat16", progress=False).text
    assert text.eos_token_ids == (2, 0)
    assert text.chat_template is not None
    prompt = ChatTemplate(text.chat_template, text).render([{"role": "user", "content": "Hi"}])
    assert prompt.endswith("<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n")
