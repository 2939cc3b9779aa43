"""GGUF files: every block format, every architecture's order of rows, and damaged files."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
from gguf import GGMLQuantizationType as Kind
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.numpy import load_file

from headway.checkpoint import Prepared, Storage, prepare
from headway.checkpoint.gguf.model import llama3_divisors, open_gguf_checkpoint
from headway.errors import HeadwayError, ModelError
from headway.text import Tokenizer
from headway.types.sampling_defaults import SamplingDefaults

HIDDEN, HEADS, KV_HEADS, SIZE, INNER, LAYERS = 64, 4, 2, 16, 96, 2
WORDS = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256)), "▁", "h", "i", "hi"]
KINDS = [2, 3, 3, *([6] * 256), 1, 1, 1, 1]


def write(path: Path, architecture: str = "llama", **options: Any) -> dict[str, Any]:
    """A small random model; returns its tensors as given to the writer.

    `keys` adds or replaces metadata of the architecture, `whole_keys` others, `kind` quantises all
    matrices, `extra` adds tensors, and `without` leaves some out.
    """
    writer = gguf.GGUFWriter(path, architecture)
    keys: dict[str, Any] = {
        "embedding_length": HIDDEN,
        "block_count": LAYERS,
        "attention.head_count": HEADS,
        "attention.head_count_kv": KV_HEADS,
        "feed_forward_length": INNER,
        "context_length": 128,
        **options.get("keys", {}),
    }
    for name, value in keys.items():
        write_one = writer.add_string if isinstance(value, str) else writer.add_uint32
        (writer.add_float32 if isinstance(value, float) else write_one)(
            f"{architecture}.{name}", value
        )
    for name, value in options.get("whole_keys", {}).items():
        (writer.add_float32 if isinstance(value, float) else writer.add_uint32)(name, value)
    writer.add_float32(f"{architecture}.attention.layer_norm_rms_epsilon", 1e-5)
    writer.add_tokenizer_model(options.get("tokenizer", "llama"))
    writer.add_token_list(options.get("words", WORDS))
    writer.add_token_types(options.get("kinds", KINDS))
    writer.add_token_scores([-float(place) for place in range(len(WORDS))])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_unk_token_id(0)
    tensors = {**make_tensors(architecture), **options.get("extra", {})}
    for name in options.get("without", ()):
        del tensors[name]
    for name, value in tensors.items():
        kind = options.get("kind", Kind.F32) if value.ndim > 1 else Kind.F32
        writer.add_tensor(name, gguf.quants.quantize(value, kind), raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return tensors


def make_tensors(architecture: str) -> dict[str, Any]:
    random = np.random.default_rng(0)

    def normal(*shape: int) -> Any:
        return random.standard_normal(shape).astype(np.float32)

    tensors = {
        "token_embd.weight": normal(len(WORDS), HIDDEN),
        "output_norm.weight": normal(HIDDEN),
    }
    for layer in range(LAYERS):
        parts = {
            "attn_norm": normal(HIDDEN),
            "attn_q": normal(HEADS * SIZE, HIDDEN),
            "attn_k": normal(KV_HEADS * SIZE, HIDDEN),
            "attn_v": normal(KV_HEADS * SIZE, HIDDEN),
            "attn_output": normal(HIDDEN, HEADS * SIZE),
            "ffn_norm": normal(HIDDEN),
            "ffn_gate": normal(INNER, HIDDEN),
            "ffn_up": normal(INNER, HIDDEN),
            "ffn_down": normal(HIDDEN, INNER),
        }
        if architecture in ("qwen3", "qwen3moe", "gemma3"):
            parts |= {"attn_q_norm": normal(SIZE), "attn_k_norm": normal(SIZE)}
        if architecture == "gemma3":
            parts |= {"post_attention_norm": normal(HIDDEN), "post_ffw_norm": normal(HIDDEN)}
        if architecture == "qwen3moe":
            for name in ("ffn_gate", "ffn_up", "ffn_down"):
                del parts[name]
            parts |= {
                "ffn_gate_inp": normal(3, HIDDEN),
                "ffn_gate_exps": normal(3, 32, HIDDEN),
                "ffn_up_exps": normal(3, 32, HIDDEN),
                "ffn_down_exps": normal(3, HIDDEN, 32),
            }
        tensors |= {f"blk.{layer}.{name}.weight": value for name, value in parts.items()}
        if architecture == "qwen2":
            for part, rows in (("q", HEADS), ("k", KV_HEADS), ("v", KV_HEADS)):
                tensors[f"blk.{layer}.attn_{part}.bias"] = normal(rows * SIZE)
    return tensors


def prepared(path: Path) -> tuple[Prepared, dict[str, Any]]:
    found = prepare(str(path), dtype="float32", progress=False)
    return found, load_file(found.folder / "weights.safetensors")


def test_llamas_rotary_rows_are_put_in_order(tmp_path: Path) -> None:
    given_tensors = write(tmp_path / "m.gguf")
    _, ours = prepared(tmp_path / "m.gguf")
    q = given_tensors["blk.1.attn_q.weight"]
    # Within a head, llama.cpp has pairs (0, half), (1, half + 1), ... beside each other.
    order = [
        head * SIZE + pair * 2 + half
        for head in range(HEADS)
        for half in (0, 1)
        for pair in range(SIZE // 2)
    ]
    np.testing.assert_array_equal(ours["layers.1.qkv.weight"][: HEADS * SIZE], q[order])
    v = given_tensors["blk.1.attn_v.weight"]
    np.testing.assert_array_equal(ours["layers.1.qkv.weight"][-KV_HEADS * SIZE :], v)


@pytest.mark.parametrize("architecture", ["qwen2", "qwen3", "gemma3"])
def test_other_families_are_taken_as_they_are(architecture: str, tmp_path: Path) -> None:
    theirs = write(tmp_path / "m.gguf", architecture, keys=gemma_keys(architecture))
    found, ours = prepared(tmp_path / "m.gguf")
    qkv = np.concatenate([theirs[f"blk.0.attn_{part}.weight"] for part in "qkv"])
    np.testing.assert_array_equal(ours["layers.0.qkv.weight"], qkv)
    np.testing.assert_array_equal(ours["norm.weight"], theirs["output_norm.weight"])
    gate_up = np.concatenate([theirs[f"blk.0.ffn_{part}.weight"] for part in ("gate", "up")])
    np.testing.assert_array_equal(ours["layers.0.gate_up.weight"], gate_up)
    assert found.config.attention_bias == (architecture == "qwen2")
    assert found.config.tie_embeddings
    assert found.config.norm_eps == 1e-5
    if architecture == "gemma3":
        assert found.config.sliding_layers == (True, True)
        assert found.config.embedding_scale == math.sqrt(HIDDEN)


def gemma_keys(architecture: str) -> dict[str, Any]:
    return {"attention.sliding_window": 16} if architecture == "gemma3" else {}


def test_experts_are_stacked_gate_before_up(tmp_path: Path) -> None:
    keys = {"expert_count": 3, "expert_used_count": 2, "expert_feed_forward_length": 32}
    theirs = write(tmp_path / "m.gguf", "qwen3moe", keys=keys)
    found, ours = prepared(tmp_path / "m.gguf")
    both = [theirs[f"blk.1.ffn_{part}_exps.weight"] for part in ("gate", "up")]
    np.testing.assert_array_equal(
        ours["layers.1.experts.gate_up.weight"], np.concatenate(both, axis=1)
    )
    np.testing.assert_array_equal(
        ours["layers.1.experts.down.weight"], theirs["blk.1.ffn_down_exps.weight"]
    )
    assert (found.config.num_experts, found.config.num_experts_per_token) == (3, 2)


@pytest.mark.parametrize(
    "kind", [Kind.F16, Kind.BF16, Kind.Q8_0, Kind.Q4_0, Kind.Q4_1, Kind.Q5_0, Kind.Q5_1]
)
def test_blocks_are_decoded_row_by_row(kind: Kind, tmp_path: Path) -> None:
    theirs = write(tmp_path / "m.gguf", "qwen3", kind=kind)
    _, ours = prepared(tmp_path / "m.gguf")
    name = "blk.0.ffn_down.weight"
    expected = gguf.quants.dequantize(gguf.quants.quantize(theirs[name], kind), kind)
    np.testing.assert_array_equal(ours["layers.0.down.weight"], expected)


def test_rope_divisors_become_llama_3_scaling(tmp_path: Path) -> None:
    divisors = llama3_divisors(32.0, theta=5e5, count=SIZE // 2).astype(np.float32)
    keys = {"rope.freq_base": 5e5}
    write(tmp_path / "m.gguf", keys=keys, extra={"rope_freqs.weight": divisors})
    scaling = prepared(tmp_path / "m.gguf")[0].config.rope_scaling
    assert scaling is not None
    assert (scaling.kind, scaling.factor, scaling.original_max_position) == ("llama3", 32.0, 8192)
    divisors[0] = 3.0
    write(tmp_path / "n.gguf", keys=keys, extra={"rope_freqs.weight": divisors})
    with pytest.raises(ModelError, match="not Llama 3's scaling"):
        prepared(tmp_path / "n.gguf")


def test_the_vocabulary_encodes_with_space_prefix_and_bytes(tmp_path: Path) -> None:
    write(tmp_path / "m.gguf")
    tokenizer = Tokenizer.load(prepared(tmp_path / "m.gguf")[0].folder)
    assert [tokenizer.token_text(token) for token in tokenizer.encode("hi")] == ["<s>", " ", "hi"]
    assert tokenizer.decode(tokenizer.encode("hi é\n")) == "hi é\n"
    assert tokenizer.eos_token_ids == (2,)


X = np.ones((2, 2), np.float32)


@pytest.mark.parametrize(
    ("architecture", "options", "reason"),
    [
        ("mamba", {}, "unknown architecture 'mamba'"),
        ("llama", {"without": ["blk.1.ffn_up.weight"]}, "blk.1.ffn_up.weight is missing"),
        ("llama", {"extra": {"blk.0.strange.weight": X}}, "unknown tensors blk.0.strange"),
        ("llama", {"keys": {"feed_forward_length": 95}}, r"expected \[95, 64\]"),
        ("llama", {"keys": {"block_count": 4_000_000_000}}, "num_layers is 4,000,000,000"),
        ("llama", {"keys": {"attention.head_count": 0}}, "0 attention heads"),
        ("llama", {"keys": {"embedding_length": "x"}}, "embedding_length is not a whole number"),
        ("llama", {"keys": {"expert_count": 8}}, "8 experts"),
        ("llama", {"keys": {"rope.dimension_count": 8}}, "part of a head"),
        ("llama", {"keys": {"rope.scaling.type": "longrope"}}, "'longrope'"),
        ("llama", {"tokenizer": "bert"}, "tokenizer model 'bert'"),
        ("llama", {"words": [*WORDS[:-1], "h"]}, "a token appears twice"),
        ("llama", {"kinds": KINDS[:-1]}, "token types"),
        ("gemma3", {}, "sliding_window is missing"),
    ],
)
def test_what_cannot_be_run_is_named(
    architecture: str, options: dict[str, Any], reason: str, tmp_path: Path
) -> None:
    write(tmp_path / "m.gguf", architecture, **options)
    with pytest.raises(ModelError, match=reason):
        prepared(tmp_path / "m.gguf")


def test_sampling_defaults_of_newer_files(tmp_path: Path) -> None:
    write(tmp_path / "plain.gguf")
    assert open_gguf_checkpoint(tmp_path / "plain.gguf").text.sampling == SamplingDefaults()
    stated = {"general.sampling.temp": 0.6, "general.sampling.top_k": 20}
    write(tmp_path / "stating.gguf", whole_keys=stated)
    found = open_gguf_checkpoint(tmp_path / "stating.gguf").text.sampling
    assert found == SamplingDefaults(temperature=0.6, top_k=20)


def test_damage_is_named(tmp_path: Path) -> None:
    write(tmp_path / "m.gguf")
    whole = (tmp_path / "m.gguf").read_bytes()
    bad = tmp_path / "bad.gguf"
    for content, reason in (
        (b"", "cannot be read"),
        (b"GGML" + whole[4:], "not a GGUF file"),
        (whole[:4] + b"\x09" + whole[5:], "version 9"),
        (whole[:4] + b"\0\0\0\x03" + whole[8:], "big-endian"),
        (whole[:8] + b"\xff" * 7 + whole[15:], "do not fit in the file"),
        (whole[:100], "truncated"),
        (whole[:-64], "truncated: tensor"),
    ):
        bad.write_bytes(content)
        with pytest.raises(ModelError, match=f"bad.gguf: .*{reason}"):
            prepared(bad)


@settings(
    max_examples=150,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(data=st.data())
def test_any_damage_gives_a_model_error_or_a_model(data: st.DataObject, tmp_path: Path) -> None:
    source = tmp_path / "m.gguf"
    if not source.exists():
        write(source)
    content = bytearray(source.read_bytes())
    header = content.index(b"blk.1.ffn_down") + 64
    for _ in range(data.draw(st.integers(0, 4))):
        content[data.draw(st.integers(0, header))] = data.draw(st.integers(0, 255))
    cut = data.draw(st.one_of(st.just(len(content)), st.integers(0, len(content))))
    bad = tmp_path / "bad.gguf"
    bad.write_bytes(content[:cut])
    refusal = refused(bad, data.draw(st.sampled_from(["bfloat16", "native-int8", "native-int4"])))
    assert refusal is None or (type(refusal) is ModelError and "bad.gguf" in refusal.message)


def refused(path: Path, dtype: Storage) -> HeadwayError | None:
    try:
        prepare(str(path), dtype=dtype, progress=False)
    except HeadwayError as error:
        return error
    return None
