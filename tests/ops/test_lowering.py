"""Traced models as programs: what is fused, what is converted, what shares memory, what fails."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headway.errors import ModelError
from headway.native.abi import Epilogue, HwKind, HwWeightFormat
from headway.ops.native import BufferSpec, Instruction, Program, Tracer, describe, lower
from headway.ops.native.program import share_buffers
from headway.types.model import ModelConfig
from tests.ops.fake_weights import FakeWeights, trace

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


def lowered(
    config: ModelConfig, weight_format: HwWeightFormat, **exceptions: HwWeightFormat
) -> tuple[Program, str]:
    weights = FakeWeights(config, weight_format, exceptions)
    program = lower(trace(config, weights).ops, weights.matrices)
    return program, describe(program, weights)


def test_llama_adds_in_place_and_norms_into_the_matrix_format() -> None:
    assert lowered(LLAMA, HwWeightFormat.INT8)[1].splitlines() == [
        "EMBED      tokens -> b0 float32 64  embed",
        "NORM       b0 float32 64 -> b1 int8 64  layers.0.attention_norm",
        "LINEAR     b1 int8 64 -> b2 float32 128  layers.0.qkv",
        "ROPE       b2 float32 128 -> b3 float32 64  layer 0, rope 0",
        "ATTENTION  b3 float32 64 -> b4 float32 64  layer 0",
        "CONVERT    b4 float32 64 -> b1 int8 64",
        "LINEAR     b1 int8 64 -> b0 float32 64 add  layers.0.output",
        "NORM       b0 float32 64 -> b1 int8 64  layers.0.mlp_norm",
        "LINEAR     b1 int8 64 -> b5 float32 96 gate  layers.0.gate_up",
        "CONVERT    b5 float32 96 -> b6 int8 96",
        "LINEAR     b6 int8 96 -> b0 float32 64 add  layers.0.down",
        "NORM       b0 float32 64 -> b1 int8 64  norm",
        "LM_HEAD    b1 int8 64 -> tokens  embed",
    ]


def test_float32_needs_no_conversion() -> None:
    program, _ = lowered(LLAMA, HwWeightFormat.FLOAT32)
    assert HwKind.CONVERT not in [each.kind for each in program.instructions]
    assert {each.format for each in program.buffers} == {HwWeightFormat.FLOAT32}


def test_mixed_formats_convert_between_them() -> None:
    lines = lowered(
        LLAMA, HwWeightFormat.INT4, down=HwWeightFormat.INT8, embed=HwWeightFormat.INT8
    )[1].splitlines()
    assert lines[0] == "EMBED      tokens -> b0 float32 64  embed"
    assert "CONVERT    b5 float32 96 -> b6 int8 96" in lines
    assert lines[-2:] == [
        "NORM       b0 float32 64 -> b7 int8 64  norm",
        "LM_HEAD    b7 int8 64 -> tokens  embed",
    ]


def test_experts_take_float32_and_add_in_place() -> None:
    lines = lowered(QWEN3_MOE, HwWeightFormat.INT8, router=HwWeightFormat.FLOAT32)[1].splitlines()
    assert lines[3] == (
        "ROPE       b2 float32 128 -> b3 float32 64  "
        "layer 0, layers.0.q_norm, layers.0.k_norm, rope 0"
    )
    assert lines[7:10] == [
        "NORM       b0 float32 64 -> b4 float32 64  layers.0.mlp_norm",
        "LINEAR     b4 float32 64 -> b5 float32 4  layers.0.router",
        "EXPERTS    b4 float32 64, b5 float32 4 -> b0 float32 64 add  "
        "layers.0.experts.gate_up, layers.0.experts.down",
    ]


def test_a_norm_writes_both_where_both_are_needed() -> None:
    program, text = lowered(QWEN3_MOE, HwWeightFormat.BFLOAT16)
    lines = text.splitlines()
    assert "NORM       b0 float32 64 -> b1 bfloat16 64 b4 float32 64  layers.0.mlp_norm" in lines
    experts = next(each for each in program.instructions if each.kind is HwKind.EXPERTS)
    assert (experts.experts, experts.top_k, experts.normalise) == (4, 2, True)


def test_gemma_adds_norms_in_place() -> None:
    program, text = lowered(GEMMA3, HwWeightFormat.BFLOAT16)
    lines = text.splitlines()
    assert lines[3].endswith("layers.0.q_norm, layers.0.k_norm, rope 1")
    assert lines[4].endswith("layer 0, window 8")
    assert lines[6:8] == [
        "LINEAR     b1 bfloat16 64 -> b4 float32 64  layers.0.output",
        "NORM       b4 float32 64 -> b0 float32 64 add  layers.0.post_attention_norm",
    ]
    assert program.instructions[0].scale == 8.0
    assert program.instructions[-1].softcap == 30.0


def test_layers_share_their_buffers() -> None:
    one, _ = lowered(LLAMA, HwWeightFormat.INT8)
    many, _ = lowered(replace(LLAMA, num_layers=9), HwWeightFormat.INT8)
    assert many.buffers == one.buffers


class Bench:
    """A tracer with matrices of every kind at hand."""

    def __init__(self, weight_format: HwWeightFormat = HwWeightFormat.INT8) -> None:
        self.weights = FakeWeights(QWEN3_MOE, weight_format)
        self.ops = Tracer()
        self.table = self.weights.table("embed")
        self.x = self.ops.embed(self.table, 1.0)
        self.square = self.weights.matrix("layers.0.output")
        self.lm_head = self.weights.matrix("head")
        self.norm = self.weights.vector("norm")

    def lowered(self, hidden: Any) -> list[str]:
        self.ops.lm_head(hidden, self.lm_head, None)
        return describe(lower(self.ops.ops, self.weights.matrices), self.weights).splitlines()


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


def test_a_sum_whose_base_is_read_by_the_very_next_operation_works_on_a_copy() -> None:
    bench = Bench()
    ops, x = bench.ops, bench.x
    total = ops.add(x, ops.linear(ops.norm(x, bench.norm, 0.1), bench.square))
    again = ops.norm(x, bench.norm, 0.2)  # a product reads it, so it is no part of a sum
    lines = bench.lowered(ops.add(total, ops.linear(again, bench.square)))
    assert lines[2:5] == [
        "CONVERT    b0 float32 64 -> b2 float32 64",
        "LINEAR     b1 int8 64 -> b2 float32 64 add  layers.0.output",
        "NORM       b0 float32 64 -> b1 int8 64  norm",
    ]


def test_a_product_is_not_added_to_what_it_reads() -> None:
    bench = Bench(HwWeightFormat.FLOAT32)
    ops, x = bench.ops, bench.x
    lines = bench.lowered(ops.add(x, ops.linear(x, bench.square)))
    assert lines[1:3] == [
        "CONVERT    b0 float32 64 -> b1 float32 64",
        "LINEAR     b0 float32 64 -> b1 float32 64 add  layers.0.output",
    ]


def test_a_norm_may_be_added_to_what_it_reads() -> None:
    bench = Bench(HwWeightFormat.FLOAT32)
    lines = bench.lowered(bench.ops.add(bench.ops.norm(bench.x, bench.norm, 0.1), bench.x))
    assert lines[1] == "NORM       b0 float32 64 -> b0 float32 64 add  norm"


def test_a_sum_of_two_shared_values_is_refused() -> None:
    bench = Bench()
    product = bench.ops.linear(bench.x, bench.square)
    bench.ops.add(product, bench.ops.add(bench.x, product))
    with pytest.raises(ModelError, match="nothing else uses"):
        bench.lowered(bench.x)


def test_gate_up_matrices_and_gates_need_each_other() -> None:
    config = replace(LLAMA, intermediate_size=64)
    for name, gated in (("layers.0.gate_up", False), ("layers.0.qkv", True)):
        weights, ops = FakeWeights(config, HwWeightFormat.INT8), Tracer()
        matrix = weights.matrix(name)
        x = ops.linear(ops.embed(weights.table("embed"), 1.0), matrix)
        square = replace(matrix, inputs=128, outputs=64)
        x = ops.gate(x, "silu") if gated else ops.linear(x, square)
        ops.lm_head(x, weights.matrix("embed"), None)
        with pytest.raises(ModelError, match="gate"):
            lower(ops.ops, weights.matrices)


def test_widths_that_do_not_fit_are_refused() -> None:
    bench = Bench()
    qkv = bench.weights.matrix("layers.0.qkv")
    with pytest.raises(ModelError, match="matrix of width 64 meets rows of width 128"):
        bench.ops.linear(bench.ops.linear(bench.x, qkv), qkv)
    with pytest.raises(ModelError, match="sum"):
        bench.ops.add(bench.x, bench.ops.linear(bench.x, qkv))


def test_a_trace_without_an_lm_head_is_refused() -> None:
    bench = Bench()
    with pytest.raises(ModelError, match="lm_head"):
        lower(bench.ops.ops, bench.weights.matrices)


SPECS = [
    BufferSpec(format=HwWeightFormat.FLOAT32, width=64),
    BufferSpec(format=HwWeightFormat.INT8, width=64),
]


@st.composite
def programs(draw: st.DrawFn) -> Program:
    """Instructions that read what was written before them; every buffer is written first."""
    instructions, written = [Instruction(kind=HwKind.EMBED, out=0)], [0]
    for _ in range(draw(st.integers(1, 25))):
        source, added = draw(st.sampled_from(written)), draw(st.booleans())
        outs = [len(written), len(written) + 1] if draw(st.booleans()) else [len(written)]
        if added:
            outs = [draw(st.sampled_from(written))]
        else:
            written += outs
        instructions.append(
            Instruction(
                kind=HwKind.NORM,
                source=source,
                out=outs[0],
                out2=outs[1] if len(outs) > 1 else -1,
                epilogue=Epilogue.ADD if added else Epilogue.STORE,
            )
        )
    specs = draw(st.lists(st.sampled_from(SPECS), min_size=len(written), max_size=len(written)))
    return Program(instructions=tuple(instructions), buffers=tuple(specs))


@given(programs())
def test_shared_buffers_hold_what_their_readers_expect(program: Program) -> None:
    shared = share_buffers(program)
    assert len(shared.buffers) <= len(program.buffers)
    before: dict[int, tuple[int, int]] = {}
    after: dict[int, tuple[int, int]] = {}
    for index, (old, new) in enumerate(zip(program.instructions, shared.instructions, strict=True)):
        assert [before[n] for n in old.reads] == [after[n] for n in new.reads]
        for nth, (first, second) in enumerate(zip(old.writes, new.writes, strict=True)):
            assert program.buffers[first] == shared.buffers[second]
            before[first] = after[second] = (index, nth)
        fresh = set(new.writes) - set(new.reads)
        assert old.epilogue is Epilogue.ADD or fresh == set(new.writes)
