"""Tiny random models of every family, as transformers writes them, and the same in Headway."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import transformers
from tokenizers import Tokenizer, models

VOCABULARY = 160

COMMON: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 256,
    "initializer_range": 0.2,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
}

LLAMA3 = {
    "rope_type": "llama3",
    "rope_theta": 10000.0,
    "factor": 4.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}
YARN = {
    "rope_type": "yarn",
    "rope_theta": 10000.0,
    "factor": 4.0,
    "original_max_position_embeddings": 64,
}
LINEAR = {"rope_type": "linear", "rope_theta": 10000.0, "factor": 2.0}


def _llama(**changes: Any) -> Any:
    return transformers.LlamaConfig(**{**COMMON, **changes})


def _mistral() -> Any:
    return transformers.MistralConfig(**COMMON, sliding_window=8, head_dim=16)


def _qwen2() -> Any:
    return transformers.Qwen2Config(**COMMON)


def _qwen3() -> Any:
    return transformers.Qwen3Config(**COMMON, head_dim=24)


def _qwen3_moe() -> Any:
    return transformers.Qwen3MoeConfig(
        **{**COMMON, "head_dim": 16},
        num_experts=6,
        num_experts_per_tok=2,
        moe_intermediate_size=32,
        norm_topk_prob=True,
        decoder_sparse_step=1,
        mlp_only_layers=[1],
    )


def _gemma3() -> Any:
    return transformers.Gemma3TextConfig(
        **COMMON,
        head_dim=32,
        sliding_window=8,
        query_pre_attn_scalar=32,
        layer_types=[
            "sliding_attention",
            "sliding_attention",
            "full_attention",
            "sliding_attention",
        ],
    )


FAMILIES: dict[str, Callable[[], Any]] = {
    "llama": lambda: _llama(tie_word_embeddings=True),
    "llama-llama3-rope": lambda: _llama(rope_parameters=LLAMA3),
    "llama-yarn-rope": lambda: _llama(rope_parameters=YARN),
    "llama-linear-rope": lambda: _llama(rope_parameters=LINEAR, mlp_bias=True),
    "llama-biases": lambda: _llama(attention_bias=True),
    "mistral": _mistral,
    "qwen2": _qwen2,
    "qwen3": _qwen3,
    "qwen3_moe": _qwen3_moe,
    "gemma3": _gemma3,
}


def write_tiny(family: str, folder: Path) -> Any:
    """Save a seeded random model with a word-level tokenizer; returns transformers' model."""
    torch.manual_seed(sorted(FAMILIES).index(family))
    config = FAMILIES[family]()
    config._attn_implementation = "eager"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        make: Any = transformers.AutoModelForCausalLM.from_config
        model = make(config, dtype=torch.float32).eval()
        # Biases and norms start as zeros and ones, which would hide a mistake with them.
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.ndim == 1:
                    parameter.add_(torch.randn_like(parameter) * 0.2)
        model.save_pretrained(folder)
    words = {f"w{n}": n for n in range(VOCABULARY)}
    Tokenizer(models.WordLevel(words, unk_token="w0")).save(str(folder / "tokenizer.json"))
    return model
