"""How fast the native kernels would decode models of 1, 3 and 8 billion parameters.

A model of random weights has a Llama's shapes, but only two of its layers, and of its vocabulary
the same share. So the whole model's step is taken to be as many times the measured one as there are
pairs of layers. In process, greedy, all sequences at one context length. With `--llama-cpp`, the
folder of llama.cpp's programs, its own benchmark decodes the same shapes, Q8_0 and Q4_0, in turns.

    python benchmarks/larger_shapes.py --models 1B 3B --dtypes int8 int4 --out shapes.json
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import statistics
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from itertools import chain
from pathlib import Path

import numpy as np
import numpy.typing as npt

from headway.checkpoint import native_storage, prepare
from headway.checkpoint.inventory import Source, find
from headway.checkpoint.safetensors import TensorEntry, write_container
from headway.checkpoint.storage import WeightFormat
from headway.config import EngineConfig
from headway.machine import cores
from headway.runner.native import NativeRunner, build_native_runner
from parts import NAMES, Decoder
from served import about_this_machine
from shapes_gguf import F32, Q4_0, Q8_0, Tensor, Value, write

VOCABULARY = 128_256
MEASURED_LAYERS = 2
EPSILON, THETA = 1e-5, 500_000.0
GGUF_NAMES = {
    "embed_tokens": "token_embd",
    "norm": "output_norm",
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}


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

    @property
    def times(self) -> float:
        """The whole model is so many times what is measured."""
        return self.layers / MEASURED_LAYERS

    @property
    def vocabulary(self) -> int:
        """Tokens that are there."""
        return round(VOCABULARY / self.times)


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
        "vocab_size": shape.vocabulary,
        "max_position_embeddings": 4096,
        "rms_norm_eps": EPSILON,
        "rope_theta": THETA,
        "tie_word_embeddings": True,
        "bos_token_id": 1,
        "eos_token_id": 2,
    }
    (folder / "config.json").write_text(json.dumps(settings))
    tokens = {f"w{n}": n for n in range(shape.vocabulary)}
    words = {"type": "WordLevel", "vocab": tokens, "unk_token": "w0"}
    (folder / "tokenizer.json").write_text(json.dumps({"version": "1.0", "model": words}))
    write_container(folder / "model.safetensors", list(entries(shape)), {}, lambda _: None)
    return find(str(folder), progress=False)


def entries(shape: Shape) -> Iterator[TensorEntry]:
    """The tensors of the measured layers and of the part of the vocabulary."""
    hidden, size = shape.hidden, shape.head_dim
    shapes: dict[str, tuple[int, ...]] = {"embed_tokens": (shape.vocabulary, hidden)}
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


def write_gguf(shape: Shape, dtype: str, path: Path) -> None:
    """The same shapes as a GGUF file, of blocks of eight or of four bits."""
    metadata: dict[str, Value] = {
        "general.architecture": "llama",
        "llama.vocab_size": shape.vocabulary,
        "llama.context_length": 4096,
        "llama.embedding_length": shape.hidden,
        "llama.block_count": MEASURED_LAYERS,
        "llama.feed_forward_length": shape.inner,
        "llama.attention.head_count": shape.heads,
        "llama.attention.head_count_kv": shape.kv_heads,
        "llama.attention.key_length": shape.head_dim,
        "llama.attention.value_length": shape.head_dim,
        "llama.rope.dimension_count": shape.head_dim,
        "llama.attention.layer_norm_rms_epsilon": EPSILON,
        "llama.rope.freq_base": THETA,
        "tokenizer.ggml.model": "none",
    }
    tensors = []
    for entry in entries(shape):
        name = entry.name.removeprefix("model.").removesuffix(".weight")
        layer = name.split(".")[1] if name.startswith("layers.") else None
        named = GGUF_NAMES[name.removeprefix(f"layers.{layer}.")]
        rows, columns = entry.shape if len(entry.shape) == 2 else (entry.shape[0], 1)
        # Like most such files, with the head in eight bits.
        eight = dtype == "int8" or named == "token_embd"
        kind = F32 if columns == 1 else Q8_0 if eight else Q4_0
        prefix = "" if layer is None else f"blk.{layer}."
        tensors.append(
            Tensor(name=f"{prefix}{named}.weight", rows=rows, columns=columns, kind=kind)
        )
    write(path, metadata, tensors)


def measure_llama_cpp(
    shape: Shape, path: Path, dtype: str, given: argparse.Namespace
) -> Iterator[dict[str, object]]:
    """What llama.cpp's own benchmark decodes, in the form of `measure`."""
    write_gguf(shape, dtype, path)
    command: list[str] = [str(given.llama_cpp / "llama-batched-bench"), "-m", str(path)]
    command += ["-npp", str(given.context), "-ntg", str(given.steps), "-fa", "on"]
    command += ["-npl", ",".join(map(str, given.batches)), "-t", str(given.threads or cores())]
    room = max(given.batches) * (given.context + given.steps)
    command += ["-c", str(room), "-ctk", "q8_0", "-ctv", "q8_0", "--output-format", "jsonl"]
    environment = os.environ | {"LD_LIBRARY_PATH": str(given.llama_cpp)}
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    for line in done.stdout.splitlines():
        if line.startswith("{"):
            row = json.loads(line)
            step = row["t_tg"] / row["tg"] * 1e3 * shape.times
            yield {
                "engine": "llama.cpp",
                "dtype": dtype,
                "batch": row["pl"],
                "whole model, ms": step,
                "whole model, tokens/s": row["pl"] / step * 1e3,
            }


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
        measured = statistics.median(decoder.step(batch) for _ in range(given.steps)) * 1e3
        parts = {n: s / given.steps * 1e3 for n, s in zip(NAMES, seconds, strict=True)}
        step = measured * shape.times
        work = 2e-6 * batch * MEASURED_LAYERS * shape.layer_weights
        yield {
            "engine": "Headway",
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
    parser.add_argument("--llama-cpp", type=Path, help="the folder of its programs")
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    rows = []
    for name in given.models:
        with tempfile.TemporaryDirectory() as folder:
            os.environ["HEADWAY_HOME"] = folder  # what is prepared is of no use afterwards
            source = write_model(SHAPES[name], Path(folder))
            for dtype in given.dtypes:
                found = [measure(SHAPES[name], source, dtype, given)]
                if given.llama_cpp:
                    file = Path(folder) / "shapes.gguf"
                    found.append(measure_llama_cpp(SHAPES[name], file, dtype, given))
                for row in chain(*found):
                    rows.append({"model": name} | row)
                    print(json.dumps(rows[-1]), flush=True)
                    if given.out:  # after each, so that a run that is cut short leaves something
                        record = about_this_machine() | {"context": given.context, "rows": rows}
                        given.out.write_text(json.dumps(record, indent=1) + "\n")
                gc.collect()


if __name__ == "__main__":
    main()
