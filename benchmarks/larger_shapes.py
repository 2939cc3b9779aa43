"""How fast the native kernels would decode models of 1, 3 and 8 billion parameters.

A model of random weights has a Llama's shapes, but few layers and a part of its vocabulary. The
parts of a step are measured by kind of operation, and the whole model's step is extrapolated from
them: all layers by those that are there, and the head by the vocabulary. In process, greedy, all
sequences at one context length.

    python benchmarks/larger_shapes.py --models 1B 3B --dtypes int8 int4 --out shapes.json
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt

from headway.checkpoint import native_storage, prepare
from headway.checkpoint.inventory import Source, find
from headway.checkpoint.safetensors import TensorEntry, write_container
from headway.checkpoint.storage import WeightFormat
from headway.config import EngineConfig
from headway.runner.native import NativeRunner, build_native_runner
from parts import NAMES, Decoder
from served import about_this_machine

VOCABULARY = 128_256
PART = 6  # of the vocabulary, one in so many tokens is there
MEASURED_LAYERS = 2


@dataclass(frozen=True, kw_only=True)
class Shape:
    """A dense model's shapes, as its config.json gives them."""

    hidden: int
    inner: int
    heads: int
    kv_heads: int
    head_dim: int
    layers: int

    @property
    def layer_weights(self) -> int:
        """Weights of one layer's matrices."""
        attended = (2 * self.heads + 2 * self.kv_heads) * self.head_dim
        return self.hidden * (attended + 3 * self.inner)


SHAPES = {
    "1B": Shape(hidden=2048, inner=8192, heads=32, kv_heads=8, head_dim=64, layers=16),
    "3B": Shape(hidden=3072, inner=8192, heads=24, kv_heads=8, head_dim=128, layers=28),
    "8B": Shape(hidden=4096, inner=14336, heads=32, kv_heads=8, head_dim=128, layers=32),
}


def write_model(shape: Shape, folder: Path) -> Source:
    """A checkpoint of random bfloat16 weights in Hugging Face's layout, its embedding tied."""
    settings = {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_size": shape.hidden,
        "intermediate_size": shape.inner,
        "num_hidden_layers": MEASURED_LAYERS,
        "num_attention_heads": shape.heads,
        "num_key_value_heads": shape.kv_heads,
        "head_dim": shape.head_dim,
        "vocab_size": VOCABULARY // PART,
        "max_position_embeddings": 4096,
        "rms_norm_eps": 1e-5,
        "rope_theta": 500000.0,
        "tie_word_embeddings": True,
        "bos_token_id": 1,
        "eos_token_id": 2,
    }
    (folder / "config.json").write_text(json.dumps(settings))
    tokens = {f"w{n}": n for n in range(VOCABULARY // PART)}
    words = {"type": "WordLevel", "vocab": tokens, "unk_token": "w0"}
    (folder / "tokenizer.json").write_text(json.dumps({"version": "1.0", "model": words}))
    write_container(folder / "model.safetensors", list(entries(shape)), {}, lambda _: None)
    return find(str(folder), progress=False)


def entries(shape: Shape) -> Iterator[TensorEntry]:
    """The tensors of the measured layers and of the part of the vocabulary."""
    hidden, size = shape.hidden, shape.head_dim
    shapes: dict[str, tuple[int, ...]] = {"embed_tokens": (VOCABULARY // PART, hidden)}
    for layer in range(MEASURED_LAYERS):
        prefix = f"layers.{layer}"
        shapes[f"{prefix}.input_layernorm"] = (hidden,)
        shapes[f"{prefix}.self_attn.q_proj"] = (shape.heads * size, hidden)
        shapes[f"{prefix}.self_attn.k_proj"] = (shape.kv_heads * size, hidden)
        shapes[f"{prefix}.self_attn.v_proj"] = (shape.kv_heads * size, hidden)
        shapes[f"{prefix}.self_attn.o_proj"] = (hidden, shape.heads * size)
        shapes[f"{prefix}.post_attention_layernorm"] = (hidden,)
        shapes[f"{prefix}.mlp.gate_proj"] = (shape.inner, hidden)
        shapes[f"{prefix}.mlp.up_proj"] = (shape.inner, hidden)
        shapes[f"{prefix}.mlp.down_proj"] = (hidden, shape.inner)
    shapes["norm"] = (hidden,)
    for name, dims in shapes.items():
        count = int(np.prod(dims))
        yield TensorEntry(
            name=f"model.{name}.weight",
            dtype="BF16",
            shape=dims,
            bytes=2 * count,
            chunks=partial(weights, count, norm=len(dims) == 1),
        )


def weights(count: int, *, norm: bool) -> Iterator[npt.NDArray[np.uint16]]:
    """So many bfloat16 numbers: ones for a norm, else small and random, some megabytes repeated."""
    if norm:
        yield np.full(count, 0x3F80, dtype=np.uint16)
        return
    random = np.random.default_rng(count)
    floats = random.normal(0, 0.02, min(count, 1 << 22)).astype(np.float32)
    piece = (floats.view(np.uint32) >> 16).astype(np.uint16)
    for begin in range(0, count, len(piece)):
        yield piece[: count - begin]


def extrapolated(shape: Shape, parts: dict[str, float]) -> float:
    """Milliseconds of the whole model's step, from those of the parts that were measured."""
    head = ("lm_head", "sample")
    layers = sum(ms for name, ms in parts.items() if name not in (*head, "embed"))
    return layers / MEASURED_LAYERS * shape.layers + PART * sum(parts[name] for name in head)


def measure(
    shape: Shape, source: Source, dtype: WeightFormat, given: argparse.Namespace
) -> Iterator[dict[str, object]]:
    """One row for each batch: the parts of a step, and what a whole model would take."""
    prepared = prepare(source, dtype=native_storage(dtype), progress=False)
    asked = EngineConfig(
        model=source.name,
        dtype=dtype,
        kv_cache_dtype="int8",
        isa=given.isa,
        threads=given.threads,
    )
    loaded = build_native_runner(asked, prepared)
    assert isinstance(loaded.runner, NativeRunner)
    decoder = Decoder(loaded.runner, max(given.batches), given.context, loaded.block_size)
    for batch in given.batches:
        decoder.step(batch)
        seconds = loaded.runner.measure()
        for _ in range(given.steps):
            decoder.step(batch)
        parts = {n: s / given.steps * 1e3 for n, s in zip(NAMES, seconds, strict=True)}
        step = extrapolated(shape, parts)
        work = 2e-6 * batch * MEASURED_LAYERS * shape.layer_weights
        yield {
            "dtype": dtype,
            "isa": loaded.hardware.isa,
            "batch": batch,
            "whole model, ms": step,
            "whole model, tokens/s": batch / step * 1e3,
            "products, G operations/s": work / parts["linear"],
            "measured, ms": parts,
        }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", nargs="+", choices=SHAPES, default=list(SHAPES))
    parser.add_argument("--dtypes", nargs="+", choices=("int8", "int4"), default=["int8", "int4"])
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 16, 64])
    parser.add_argument("--context", type=int, default=256)
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--isa", help="an instruction set to force")
    parser.add_argument("--threads", type=int, help="compute threads; all cores by default")
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    rows = []
    for name in given.models:
        with tempfile.TemporaryDirectory() as folder:
            os.environ["HEADWAY_HOME"] = folder  # what is prepared is of no use afterwards
            source = write_model(SHAPES[name], Path(folder))
            for dtype in given.dtypes:
                for row in measure(SHAPES[name], source, dtype, given):
                    rows.append({"model": name} | row)
                    print(json.dumps(rows[-1]), flush=True)
                gc.collect()
    if given.out:
        record = about_this_machine() | {"context": given.context, "rows": rows}
        given.out.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
