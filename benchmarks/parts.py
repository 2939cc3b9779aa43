"""Where a decode step's time goes on the native kernels, and how near the machine's limit it is.

In process, greedy, all sequences at one context length: seconds by kind of operation, and for the
products the share of the arithmetic rate (or of the memory's speed) that was given.

    python benchmarks/parts.py --dtype int8 --rate 940 --bandwidth 35
"""

from __future__ import annotations

import argparse
import json
import statistics
from pathlib import Path
from random import Random

from headway.checkpoint.packing import PackedShape
from headway.checkpoint.prepared import WEIGHTS
from headway.checkpoint.safetensors import read_header
from headway.config import EngineConfig
from headway.llm.weight_format import ready_model
from headway.native.abi import HwKind
from headway.runner.native import NativeRunner, build_native_runner
from headway.types import NewSequence, ResolvedSampling, Slice, StepPlan
from served import MODEL, about_this_machine

NAMES = [kind.name.lower() for kind in HwKind] + ["sample"]


def multiplications(weights: Path) -> float:
    """Multiply-adds that one token takes in the products, the head included."""
    described, _ = read_header(weights)
    packed = [
        PackedShape.parse(text) for name, text in described.items() if name.endswith(".weight")
    ]
    return float(sum(matrix.outputs * matrix.inputs for matrix in packed))


class Decoder:
    """Sequences of one length that a runner knows, and steps that add a token to some of them."""

    def __init__(self, runner: NativeRunner, count: int, context: int, block_size: int) -> None:
        random = Random(0)
        self.runner = runner
        self.context = context
        per_sequence = context // block_size + 2
        self.blocks = [tuple(range(n * per_sequence, (n + 1) * per_sequence)) for n in range(count)]
        sampling = ResolvedSampling(max_tokens=64, seed=0)
        for n in range(count):
            tokens = tuple(random.randrange(1000, 8000) for _ in range(context))
            entry = NewSequence(seq=n, tokens=tokens, prompt_len=context, sampling=sampling)
            part = Slice(seq=n, tokens=tokens, start=0, blocks=self.blocks[n], outputs=0)
            runner.compute(StepPlan(step=0, new=[entry], slices=[part], ended=[]))

    def step(self, batch: int) -> float:
        """Seconds of a step that decodes the first so many sequences, always the same token."""
        slices = [
            Slice(seq=n, tokens=(1000,), start=self.context, blocks=self.blocks[n], outputs=1)
            for n in range(batch)
        ]
        plan = StepPlan(step=0, new=[], slices=slices, ended=[])
        return self.runner.compute(plan).seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default=MODEL)
    parser.add_argument("--dtype", default="auto")
    parser.add_argument("--kv-cache-dtype", default="auto")
    parser.add_argument("--context", type=int, default=256)
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 4, 16, 64, 128])
    parser.add_argument("--rate", type=float, default=940.0, help="giga-operations/s")
    parser.add_argument("--bandwidth", type=float, default=35.0, help="GB/s from memory")
    parser.add_argument("--steps", type=int, default=15)
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    asked = EngineConfig(model=given.model, dtype=given.dtype, kv_cache_dtype=given.kv_cache_dtype)
    config, prepared = ready_model(asked)
    loaded = build_native_runner(config, prepared)
    assert isinstance(loaded.runner, NativeRunner)
    decoder = Decoder(loaded.runner, max(given.batches), given.context, loaded.block_size)
    work = 2 * multiplications(prepared.folder / WEIGHTS) / 1e9
    rows = []
    for batch in given.batches:
        decoder.step(batch)
        seconds = loaded.runner.measure()
        step = statistics.median(decoder.step(batch) for _ in range(given.steps))
        parts = {n: s / given.steps * 1e3 for n, s in zip(NAMES, seconds, strict=True) if s > 0}
        products = (parts["linear"] + parts["lm_head"]) / 1e3
        rows.append(
            {
                "batch": batch,
                "step ms": step * 1e3,
                "tokens/s": batch / step,
                "share of arithmetic": work * batch / products / given.rate,
                "share of bandwidth": loaded.weight_bytes / 1e9 / products / given.bandwidth,
                "parts ms": parts,
            }
        )
        print(json.dumps(rows[-1], default=str))
    if given.out:
        record = about_this_machine() | {"dtype": loaded.hardware.dtype, "rows": rows}
        given.out.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
