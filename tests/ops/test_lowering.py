"""Recorded models as programs: what is fused, what is converted, what shares memory, what fails."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headway.errors import ModelError
from headway.native.abi import Epilogue, HwForm, HwKind
from headway.ops.native import BufferSpec, Instruction, Program, Tracer, describe, lower
from headway.ops.native.program import share_buffers
from headway.types.model import ModelConfig
from tests.ops.paper import PaperWeights, record

LLAMA = ModelConfig(
    architecture="llama",
    name="paper",
    vocab_size=160,
    hidden_size=64,
    num_layers=1,
    num_heads=4,
    num_kv_heads=2,
    head_dim=16,
    intermediate_size=96,
    max_position=64,
    tie_embeddings=True,
)
QWEN3_MOE = replace(
    LLAMA,
    architecture="qwen3_moe",
    tie_embeddings=False,
    qk_norm=True,
    num_experts=4,
    num_experts_per_token=2,
    moe_intermediate_size=32,
)
GEMMA3 = replace(
    LLAMA,
    architecture="gemma3",
    qk_norm=True,
    activation="gelu_tanh",
    sliding_window=8,
    sliding_layers=(True,),
    rope_local_theta=10.0,
    embedding_scale=8.0,
    final_softcap=30.0,
)


def program(config: ModelConfig, form: HwForm, **exceptions: HwForm) -> tuple[Program, str]:
    weights = PaperWeights(config, form, exceptions)
    listing = lower(record(config, weights).words, weights.matrices)
    return listing, describe(listing, weights)


def test_llama_adds_in_place_and_norms_into_the_matrix_form() -> None:
    assert program(LLAMA, HwForm.INT8)[1].splitlines() == [
        "EMBED      tokens -> b0 float32 64  embed",
        "NORM       b0 float32 64 -> b1 int8 64  layers.0.attention_norm",
        "LINEAR     b1 int8 64 -> b2 float32 128  layers.0.qkv",
        "HEADS      b2 float32 128 -> b3 float32 64  layer 0, rope 0",
        "ATTENTION  b3 float32 64 -> b4 float32 64  layer 0",
        "CONVERT    b4 float32 64 -> b1 int8 64",
        "LINEAR     b1 int8 64 -> b0 float32 64 add  layers.0.output",
        "NORM       b0 float32 64 -> b1 int8 64  layers.0.mlp_norm",
        "LINEAR     b1 int8 64 -> b5 float32 96 gate  layers.0.gate_up",
        "CONVERT    b5 float32 96 -> b6 int8 96",
        "LINEAR     b6 int8 96 -> b0 float32 64 add  layers.0.down",
        "NORM       b0 float32 64 -> b1 int8 64  norm",
        "HEAD       b1 int8 64 -> choices  embed",
    ]


def test_float32_needs_no_conversion() -> None:
    listing, _ = program(LLAMA, HwForm.FLOAT32)
    assert HwKind.CONVERT not in [each.kind for each in listing.operations]
    assert {each.form for each in listing.buffers} == {HwForm.FLOAT32}


def test_mixed_forms_convert_between_them() -> None:
    lines = program(LLAMA, HwForm.INT4, down=HwForm.INT8, embed=HwForm.INT8)[1].splitlines()
    assert lines[0] == "EMBED      tokens -> b0 float32 64  embed"
    assert "CONVERT    b5 float32 96 -> b6 int8 96" in lines
    assert lines[-2:] == [
        "NORM       b0 float32 64 -> b7 int8 64  norm",
        "HEAD       b7 int8 64 -> choices  embed",
    ]


def test_experts_take_float32_and_add_in_place() -> None:
    lines = program(QWEN3_MOE, HwForm.INT8, router=HwForm.FLOAT32)[1].splitlines()
    assert lines[3] == (
        "HEADS      b2 float32 128 -> b3 float32 64  "
        "layer 0, layers.0.q_norm, layers.0.k_norm, rope 0"
    )
    assert lines[7:10] == [
        "NORM       b0 float32 64 -> b4 float32 64  layers.0.mlp_norm",
        "LINEAR     b4 float32 64 -> b5 float32 4  layers.0.router",
        "EXPERTS    b4 float32 64, b5 float32 4 -> b0 float32 64 add  "
        "layers.0.experts.gate_up, layers.0.experts.down",
    ]


def test_a_norm_writes_both_where_both_are_needed() -> None:
    listing, text = program(QWEN3_MOE, HwForm.BFLOAT16)
    lines = text.splitlines()
    assert "NORM       b0 float32 64 -> b1 bfloat16 64 b4 float32 64  layers.0.mlp_norm" in lines
    experts = next(each for each in listing.operations if each.kind is HwKind.EXPERTS)
    assert (experts.experts, experts.chosen, experts.normalise) == (4, 2, True)


def test_gemma_adds_norms_in_place() -> None:
    listing, text = program(GEMMA3, HwForm.BFLOAT16)
    lines = text.splitlines()
    assert lines[3].endswith("layers.0.q_norm, layers.0.k_norm, rope 1")
    assert lines[4].endswith("layer 0, window 8")
    assert lines[6:8] == [
        "LINEAR     b1 bfloat16 64 -> b4 float32 64  layers.0.output",
        "NORM       b4 float32 64 -> b0 float32 64 add  layers.0.post_attention_norm",
    ]
    assert listing.operations[0].scale == 8.0
    assert listing.operations[-1].softcap == 30.0


def test_layers_share_their_buffers() -> None:
    one, _ = program(LLAMA, HwForm.INT8)
    many, _ = program(replace(LLAMA, num_layers=9), HwForm.INT8)
    assert many.buffers == one.buffers


class Bench:
    """A recorder with matrices of every kind at hand."""

    def __init__(self, form: HwForm = HwForm.INT8) -> None:
        self.weights = PaperWeights(QWEN3_MOE, form)
        self.ops = Tracer()
        self.table = self.weights.table("embed")
        self.x = self.ops.embed(self.table, 1.0)
        self.square = self.weights.matrix("layers.0.output")
        self.head = self.weights.matrix("head")
        self.norm = self.weights.vector("norm")

    def lowered(self, hidden: Any) -> list[str]:
        self.ops.head(hidden, self.head, None)
        return describe(lower(self.ops.words, self.weights.matrices), self.weights).splitlines()


def test_a_sum_whose_base_is_needed_later_works_on_a_copy() -> None:
    bench = Bench()
    ops, x = bench.ops, bench.x
    total = ops.add(x, ops.linear(ops.norm(x, bench.norm, 0.1), bench.square))
    both = ops.add(total, ops.norm(x, bench.norm, 0.1))
    lines = bench.lowered(both)
    assert lines[2:5] == [
        "CONVERT    b0 float32 64 -> b2 float32 64",
        "LINEAR     b1 int8 64 -> b2 float32 64 add  layers.0.output",
        "NORM       b0 float32 64 -> b2 float32 64 add  norm",
    ]


def test_a_product_is_not_added_to_what_it_reads() -> None:
    bench = Bench(HwForm.FLOAT32)
    ops, x = bench.ops, bench.x
    lines = bench.lowered(ops.add(x, ops.linear(x, bench.square)))
    assert lines[1:3] == [
        "CONVERT    b0 float32 64 -> b1 float32 64",
        "LINEAR     b0 float32 64 -> b1 float32 64 add  layers.0.output",
    ]


def test_a_norm_may_be_added_to_what_it_reads() -> None:
    bench = Bench(HwForm.FLOAT32)
    lines = bench.lowered(bench.ops.add(bench.ops.norm(bench.x, bench.norm, 0.1), bench.x))
    assert lines[1] == "NORM       b0 float32 64 -> b0 float32 64 add  norm"


def test_a_sum_of_two_shared_values_is_refused() -> None:
    bench = Bench()
    product = bench.ops.linear(bench.x, bench.square)
    bench.ops.add(product, bench.ops.add(bench.x, product))
    with pytest.raises(ModelError, match="nothing else uses"):
        bench.lowered(bench.x)


def test_interleaved_matrices_and_gates_need_each_other() -> None:
    config = replace(LLAMA, intermediate_size=64)
    for name, gated in (("layers.0.gate_up", False), ("layers.0.qkv", True)):
        weights, ops = PaperWeights(config, HwForm.INT8), Tracer()
        matrix = weights.matrix(name)
        x = ops.linear(ops.embed(weights.table("embed"), 1.0), matrix)
        square = replace(matrix, inputs=128, outputs=64)
        x = ops.gate(x, "silu") if gated else ops.linear(x, square)
        ops.head(x, weights.matrix("embed"), None)
        with pytest.raises(ModelError, match="gate"):
            lower(ops.words, weights.matrices)


def test_widths_that_do_not_fit_are_refused() -> None:
    bench = Bench()
    qkv = bench.weights.matrix("layers.0.qkv")
    with pytest.raises(ModelError, match="matrix of width 64 meets rows of width 128"):
        bench.ops.linear(bench.ops.linear(bench.x, qkv), qkv)
    with pytest.raises(ModelError, match="sum"):
        bench.ops.add(bench.x, bench.ops.linear(bench.x, qkv))


def test_a_record_without_a_head_is_refused() -> None:
    bench = Bench()
    with pytest.raises(ModelError, match="head"):
        lower(bench.ops.words, bench.weights.matrices)


SPECS = [BufferSpec(form=HwForm.FLOAT32, width=64), BufferSpec(form=HwForm.INT8, width=64)]


@st.composite
def listings(draw: st.DrawFn) -> Program:
    """Operations that read what was written before them; every buffer is written first."""
    operations, written = [Instruction(kind=HwKind.EMBED, out=0)], [0]
    for _ in range(draw(st.integers(1, 25))):
        source, added = draw(st.sampled_from(written)), draw(st.booleans())
        outs = [len(written), len(written) + 1] if draw(st.booleans()) else [len(written)]
        if added:
            outs = [draw(st.sampled_from(written))]
        else:
            written += outs
        operations.append(
            Instruction(
                kind=HwKind.NORM,
                source=source,
                out=outs[0],
                out2=outs[1] if len(outs) > 1 else -1,
                epilogue=Epilogue.ADD if added else Epilogue.STORE,
            )
        )
    specs = draw(st.lists(st.sampled_from(SPECS), min_size=len(written), max_size=len(written)))
    return Program(operations=tuple(operations), buffers=tuple(specs))


@given(listings())
def test_shared_buffers_hold_what_their_readers_expect(listing: Program) -> None:
    shared = share_buffers(listing)
    assert len(shared.buffers) <= len(listing.buffers)
    before: dict[int, tuple[int, int]] = {}
    after: dict[int, tuple[int, int]] = {}
    for index, (old, new) in enumerate(zip(listing.operations, shared.operations, strict=True)):
        assert [before[n] for n in old.reads] == [after[n] for n in new.reads]
        for nth, (first, second) in enumerate(zip(old.writes, new.writes, strict=True)):
            assert listing.buffers[first] == shared.buffers[second]
            before[first] = after[second] = (index, nth)
        fresh = set(new.writes) - set(new.reads)
        assert old.epilogue is Epilogue.ADD or fresh == set(new.writes)
