"""Directories saved by transformers come out with transformers' own weights and settings."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from safetensors.numpy import load_file, save_file

from headway.checkpoint import ModelConfig, prepare
from headway.errors import ModelError
from headway.types.sampling_defaults import SamplingDefaults
from tests.checkpoint.conftest import save_tokenizer

SIZES: dict[str, Any] = {
    "vocab_size": 260,
    "hidden_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "intermediate_size": 48,
    "max_position_embeddings": 128,
}
LLAMA3 = {
    "rope_type": "llama3",
    "rope_theta": 5e5,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 32,
}
FAMILIES: dict[str, Any] = {
    "llama": lambda: transformers.LlamaConfig(
        **SIZES, rope_parameters=LLAMA3, attention_bias=True, mlp_bias=True
    ),
    "mistral": lambda: transformers.MistralConfig(**SIZES, sliding_window=16),
    "qwen2": lambda: transformers.Qwen2Config(**SIZES, tie_word_embeddings=True),
    "qwen3": lambda: transformers.Qwen3Config(**SIZES, head_dim=16),
    "qwen3_moe": lambda: transformers.Qwen3MoeConfig(
        **SIZES,
        head_dim=16,  # type: ignore[call-arg]
        num_experts=4,
        num_experts_per_tok=2,
        moe_intermediate_size=24,
        mlp_only_layers=[1],
    ),
    "gemma3": lambda: transformers.Gemma3TextConfig(
        **{**SIZES, "num_hidden_layers": 7}, head_dim=16, sliding_window=16
    ),
}


def save(folder: Path, family: str) -> dict[str, Any]:
    """A random model with its tokenizer in `folder`; returns its state dictionary."""
    torch.manual_seed(0)
    model = transformers.AutoModelForCausalLM.from_config(FAMILIES[family]())  # type: ignore[no-untyped-call]
    with torch.no_grad():
        for parameter in model.parameters():  # norms and biases too, so that no mix-up can hide
            parameter.normal_()
    model.save_pretrained(folder)
    save_tokenizer(folder)
    return {name: value.numpy() for name, value in model.state_dict().items()}


def prepared(source: Path) -> tuple[ModelConfig, dict[str, Any]]:
    found = prepare(str(source), dtype="float32", progress=False)
    return found.config, load_file(found.folder / "weights.safetensors")


@pytest.mark.parametrize("family", FAMILIES)
def test_weights_are_those_that_transformers_computes_with(family: str, tmp_path: Path) -> None:
    theirs = save(tmp_path / "model", family)
    config, ours = prepared(tmp_path / "model")
    offset = 1.0 if family == "gemma3" else 0.0
    for layer in range(config.num_layers):
        prefix, attention = f"model.layers.{layer}.", f"model.layers.{layer}.self_attn."
        for kind in ("weight", "bias") if config.attention_bias else ("weight",):
            expected = [theirs[f"{attention}{part}_proj.{kind}"] for part in "qkv"]
            np.testing.assert_array_equal(
                ours[f"layers.{layer}.qkv.{kind}"], np.concatenate(expected)
            )
        np.testing.assert_array_equal(
            ours[f"layers.{layer}.output.weight"], theirs[attention + "o_proj.weight"]
        )
        np.testing.assert_allclose(
            ours[f"layers.{layer}.attention_norm.weight"],
            theirs[prefix + "input_layernorm.weight"] + offset,
        )
        if config.qk_norm:
            np.testing.assert_allclose(
                ours[f"layers.{layer}.k_norm.weight"],
                theirs[attention + "k_norm.weight"] + offset,
            )
        if not config.is_moe(layer):
            gate_up = [theirs[f"{prefix}mlp.{part}_proj.weight"] for part in ("gate", "up")]
            np.testing.assert_array_equal(
                ours[f"layers.{layer}.gate_up.weight"], np.concatenate(gate_up)
            )
    np.testing.assert_allclose(ours["norm.weight"], theirs["model.norm.weight"] + offset)
    np.testing.assert_array_equal(ours["embed.weight"], theirs["model.embed_tokens.weight"])
    assert ("head.weight" in ours) == (not config.tie_embeddings)


def test_experts_are_stacked(tmp_path: Path) -> None:
    theirs = save(tmp_path / "model", "qwen3_moe")
    config, ours = prepared(tmp_path / "model")
    assert config.moe_layers == (True, False, True)
    assert not config.norm_topk_prob
    for name, part in (("gate_up", "gate_up_proj"), ("down", "down_proj")):
        np.testing.assert_array_equal(
            ours[f"layers.0.experts.{name}.weight"], theirs[f"model.layers.0.mlp.experts.{part}"]
        )
    np.testing.assert_array_equal(
        ours["layers.2.router.weight"], theirs["model.layers.2.mlp.gate.weight"]
    )


def test_settings_of_each_family(tmp_path: Path) -> None:
    configs = {}
    for family in FAMILIES:
        save(tmp_path / family, family)
        configs[family] = prepared(tmp_path / family)[0]
    scaling = configs["llama"].rope_scaling
    assert scaling is not None
    assert (scaling.kind, scaling.factor, scaling.original_max_position) == ("llama3", 8.0, 32)
    assert configs["llama"].rope_theta == 5e5
    assert configs["llama"].output_bias
    assert configs["llama"].mlp_bias
    assert configs["mistral"].architecture == "llama"
    assert configs["mistral"].window(2) == 16
    assert configs["qwen2"].attention_bias
    assert not configs["qwen2"].output_bias
    assert configs["qwen2"].window(0) is None
    assert configs["qwen3"].head_dim == 16
    gemma = configs["gemma3"]
    assert [gemma.window(layer) for layer in (0, 4, 5, 6)] == [16, 16, None, 16]
    assert (gemma.rope_theta, gemma.rope_local_theta) == (1e6, 1e4)
    assert gemma.query_scale == 256**-0.5
    assert gemma.embedding_scale == 32**0.5
    assert gemma.activation == "gelu_tanh"


def test_the_older_spelling_of_rotary_settings(tmp_path: Path) -> None:
    save(tmp_path / "model", "gemma3")
    path = tmp_path / "model" / "config.json"
    values = json.loads(path.read_text())
    for name in ("rope_parameters", "layer_types", "_sliding_window_pattern"):
        values.pop(name)
    values |= {"rope_theta": 5e5, "rope_local_base_freq": 2e4, "sliding_window_pattern": 2}
    values |= {"rope_scaling": {"rope_type": "linear", "factor": 8.0}}
    path.write_text(json.dumps(values))
    config, _ = prepared(tmp_path / "model")
    assert (config.rope_theta, config.rope_local_theta) == (5e5, 2e4)
    assert config.sliding_layers == (True, False, True, False, True, False, True)
    assert config.rope_scaling is not None
    assert (config.rope_scaling.kind, config.rope_scaling.factor) == ("linear", 8.0)


def test_the_text_half_of_a_multimodal_model(tmp_path: Path) -> None:
    save(tmp_path / "plain", "gemma3")
    shutil.copytree(tmp_path / "plain", tmp_path / "both")
    values = json.loads((tmp_path / "plain" / "config.json").read_text())
    whole = {"model_type": "gemma3", "text_config": values, "vision_config": {}}
    (tmp_path / "both" / "config.json").write_text(json.dumps(whole))
    weights = load_file(tmp_path / "plain" / "model.safetensors")
    renamed = {f"language_model.{name}": value for name, value in weights.items()}
    renamed["vision_tower.patch.weight"] = np.zeros((2, 2), np.float32)
    save_file(renamed, tmp_path / "both" / "model.safetensors")
    _, plain = prepared(tmp_path / "plain")
    _, both = prepared(tmp_path / "both")
    assert plain.keys() == both.keys()
    for name, value in plain.items():
        np.testing.assert_array_equal(value, both[name])


def shard(folder: Path) -> dict[str, str]:
    """Split a directory's weights in two files; returns the index's map."""
    weights = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    names = sorted(weights)
    listing = {}
    for number, part in enumerate((names[::2], names[1::2])):
        file = f"model-{number}.safetensors"
        save_file({name: weights[name] for name in part}, folder / file)
        listing.update(dict.fromkeys(part, file))
    index = folder / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": listing}))
    return listing


def test_shards_are_joined(tmp_path: Path) -> None:
    save(tmp_path / "one", "qwen3")
    shutil.copytree(tmp_path / "one", tmp_path / "two")
    shard(tmp_path / "two")
    _, one = prepared(tmp_path / "one")
    _, two = prepared(tmp_path / "two")
    for name, value in one.items():
        np.testing.assert_array_equal(value, two[name])


@pytest.mark.parametrize("name", ["../secret.safetensors", "/etc/passwd", "weights.bin"])
def test_an_index_names_only_safetensors_beside_it(name: str, tmp_path: Path) -> None:
    save(tmp_path / "model", "qwen3")
    listing = shard(tmp_path / "model")
    listing["model.norm.weight"] = name
    index = tmp_path / "model" / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": listing}))
    with pytest.raises(ModelError, match="not the name of a safetensors file"):
        prepared(tmp_path / "model")


def edit_config(folder: Path, **changes: object) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"model_type": "mamba"}, "unknown model_type 'mamba'"),
        ({"model_type": ["llama"]}, "unknown model_type"),
        ({"hidden_act": "relu"}, "activation 'relu'"),
        ({"num_hidden_layers": 10**9}, "layers"),
        ({"num_hidden_layers": 4}, r"tensor model.layers.3.\S+ is missing"),
        ({"num_hidden_layers": 2}, "unknown tensors model.layers.2"),
        ({"intermediate_size": 47}, r"shape \[48, 32\], expected \[47, 32\]"),
        ({"vocab_size": "many"}, "vocab_size is 'many'"),
        ({"rms_norm_eps": float("nan")}, "norm_eps"),
        ({"rope_parameters": {"rope_type": "longrope"}}, "rope scaling 'longrope'"),
        ({"rope_parameters": [1]}, "rope_parameters is not an object"),
        ({"quantization_config": {"bits": 4}}, "quantised safetensors"),
        ({"layer_types": ["odd"] * 3}, "layer_types"),
    ],
)
def test_a_config_that_does_not_fit_is_named(
    changes: dict[str, object], reason: str, tmp_path: Path
) -> None:
    save(tmp_path / "model", "mistral")
    edit_config(tmp_path / "model", **changes)
    with pytest.raises(ModelError, match=reason):
        prepared(tmp_path / "model")


def test_a_damaged_weights_file_is_named(tmp_path: Path) -> None:
    save(tmp_path / "model", "qwen3")
    path = tmp_path / "model" / "model.safetensors"
    whole = path.read_bytes()
    length = int.from_bytes(whole[:8], "little")
    lies = {
        "truncated": whole[:-1],
        "not valid JSON": whole[:8] + b"{" * length + whole[8 + length :],
        "truncated, or not a safetensors": (2**60).to_bytes(8, "little") + whole[8:],
        "stored as F8": whole.replace(b'"F32"', b'"F8" ', 1),
        "does not lie at": whole.replace(b'"shape":[', b'"shape":[2,', 1).replace(b"  ", b"", 1),
        "truncated, ": whole[:5],
    }
    for reason, content in lies.items():
        path.write_bytes(content)
        with pytest.raises(ModelError, match=f"model.safetensors: .*{reason}"):
            prepared(tmp_path / "model")


def test_sampling_defaults_are_kept_and_odd_ones_passed_over(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    save(tmp_path, "llama")
    stated = {"temperature": 0.6, "top_k": 20, "top_p": 7, "eos_token_id": 2, "do_sample": True}
    (tmp_path / "generation_config.json").write_text(json.dumps(stated))
    found = prepare(str(tmp_path), dtype="float32", progress=False).text.sampling
    assert found == SamplingDefaults(temperature=0.6, top_k=20)
    assert "top_p must be in" in caplog.text


def test_a_directory_without_weights_or_tokenizer_is_named(tmp_path: Path) -> None:
    save(tmp_path / "model", "qwen3")
    (tmp_path / "model" / "tokenizer.json").unlink()
    with pytest.raises(ModelError, match=r"has no tokenizer\.json"):
        prepared(tmp_path / "model")
    save_tokenizer(tmp_path / "model")
    (tmp_path / "model" / "model.safetensors").rename(tmp_path / "model" / "pytorch_model.bin")
    with pytest.raises(ModelError, match="pickled weights"):
        prepared(tmp_path / "model")
    (tmp_path / "model" / "config.json").write_text("{")
    with pytest.raises(ModelError):
        prepared(tmp_path / "model")
