"""A model of 2,000 tokens without weights, for the fake engine: tokens 3-99 are ASCII characters.

Token ids below 256 are bytes in GPT-2's alphabet order ('!' is 0), 1999 is the end of sequence,
and the rest are words that no text contains.
"""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import pytest
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

from headway.checkpoint import ModelConfig, Prepared, load_prepared
from headway.client import EngineClient
from headway.llm import AsyncLLM
from headway.types.model import TextConfig

EOS = 1999
VOCABULARY = 2000
TEMPLATE = (
    "{% for message in messages %}<{{ message.role }}>{{ message.content }}{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}"
)


def tokenizer_json() -> str:
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    words = [*alphabet, *(f"\u0120filler{number}" for number in range(256, EOS))]
    backend = Tokenizer(models.BPE(vocab={word: n for n, word in enumerate(words)}, merges=[]))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    backend.decoder = decoders.ByteLevel()
    backend.add_special_tokens([AddedToken("<|end|>", special=True)])
    text: str = backend.to_str()
    return text


def write_prepared(folder: Path, **script: object) -> Prepared:
    """A prepared model in `folder`, and what the fake engine is to do with it."""
    config = ModelConfig(
        architecture="llama",
        name="fake",
        vocab_size=VOCABULARY,
        hidden_size=8,
        num_layers=1,
        num_heads=1,
        num_kv_heads=1,
        head_dim=8,
        intermediate_size=8,
        max_position=2048,
    )
    text = TextConfig(eos_token_ids=(EOS,), eos_token="<|end|>", chat_template=TEMPLATE)
    (folder / "model.json").write_bytes(msgspec.json.encode(config))
    (folder / "text.json").write_bytes(msgspec.json.encode(text))
    (folder / "tokenizer.json").write_text(tokenizer_json())
    (folder / "weights.safetensors").write_bytes(b"\2\0\0\0\0\0\0\0{}")
    (folder / "script.json").write_text(json.dumps(script))
    return load_prepared(folder)


def serve_fake(monkeypatch: pytest.MonkeyPatch, prepared: Prepared) -> None:
    """Let `AsyncLLM.start` find this model whatever is asked for."""
    monkeypatch.setattr("headway.llm.async_llm.ready_model", lambda config, **_: (config, prepared))


def engine_client(llm: AsyncLLM) -> EngineClient:
    """The supervisor of the one engine process that `AsyncLLM.start` starts."""
    assert isinstance(llm.client, EngineClient)
    return llm.client
