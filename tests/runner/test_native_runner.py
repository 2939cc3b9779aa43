"""The native runner: the same bits whatever the step, and the same tokens as the torch runner."""

from __future__ import annotations

import math
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from headway.config import EngineConfig
from headway.errors import InvalidRequest
from headway.native.abi import HwKind
from headway.runner import build_runner
from headway.runner.native import NativeRunner
from headway.types import NewSequence, ResolvedSampling, StepPlan
from headway.types.step import Runner
from tests.models.families import VOCABULARY
from tests.runner.conftest import Tiny
from tests.runner.driver import Driver, Live
from tests.runner.test_runners import BLOCK, load, mixture

SAMPLINGS: list[dict[str, Any]] = [
    {},
    {"logprobs": 0},
    {"logprobs": 5, "prompt_logprobs": 3},
    {"prompt_logprobs": 0},
    {"temperature": 0.7, "top_k": 9},
    {"temperature": 0.7, "top_k": 2**40},
    {"temperature": 1.1, "top_p": 0.8, "logprobs": 2},
    {"temperature": 1.0, "min_p": 0.1},
    {"allowed_token_ids": (3, 4, 90), "logprobs": 1},
    {"logit_bias": ((7, 60.0), (8, -60.0))},
    {"repetition_penalty": 1.4, "frequency_penalty": 0.3, "presence_penalty": 0.2},
    {"repetition_penalty": 2.4, "frequency_penalty": 0.9, "repeat_last_n": 3},
    {"repetition_penalty": 2.4, "presence_penalty": 0.9, "repeat_last_n": 0},
    {"frequency_penalty": -2.0, "repeat_last_n": 3},
    {"presence_penalty": -2.0, "repeat_last_n": 12},
    {"min_tokens": 6, "stop_token_ids": tuple(range(2, 150)), "temperature": 0.9},
    {"bad_words": tuple((n,) for n in range(0, 160, 2))},
    {"bad_words": tuple((n, m) for n in range(40) for m in range(0, 160, 3)), "logprobs": 20},
]


def requests() -> list[tuple[list[int], ResolvedSampling]]:
    """Every kind of sampling, over prompts of many lengths."""
    made = []
    for n, changes in enumerate(SAMPLINGS):
        prompt = [3 + (7 * n + 11 * k) % (VOCABULARY - 3) for k in range(1 + 5 * n)]
        made.append((prompt, ResolvedSampling(max_tokens=8, seed=n, **changes)))
    return made


def answers(live: Live) -> tuple[list[Any], list[Any]]:
    """All that a sequence was told, without its number."""
    sampled = [(each.tokens, each.logprobs, each.error) for each in live.sampled]
    return sampled, [each for found in live.prompt_logprobs for each in found.logprobs]


def alone(runner: Runner, requested: Sequence[tuple[list[int], ResolvedSampling]]) -> list[Any]:
    found = []
    for prompt, sampling in requested:
        driver = Driver(runner, BLOCK)
        live = driver.add(prompt, sampling)
        driver.finish([live])
        driver.ended.append(live.seq)
        driver.run([])
        found.append(answers(live))
    return found


def together(
    runner: Runner, requested: Sequence[tuple[list[int], ResolvedSampling]], chunk: int
) -> Any:
    driver = Driver(runner, BLOCK)
    lives = [driver.add(prompt, sampling) for prompt, sampling in requested]
    driver.finish(lives, chunk=chunk)
    driver.ended += [live.seq for live in lives]
    driver.run([])
    return [answers(live) for live in lives]


@pytest.mark.parametrize("weight_format", ["float32", "bfloat16", "int8", "int4"])
@pytest.mark.parametrize("kept", ["float32", "bfloat16", "int8"])
def test_bits_do_not_depend_on_the_step(tinies: Tiny, weight_format: str, kept: Any) -> None:
    storage: Any = f"native-{weight_format}"
    folder, requested = tinies("llama", storage), requests()
    runner = load(folder, kv_cache_dtype=kept)
    expected = alone(runner, requested)
    for chunk in (10**9, 1, 13):
        assert together(runner, requested, chunk) == expected
    assert together(load(folder, kv_cache_dtype=kept, threads=2), requested, 7) == expected


@pytest.mark.parametrize("family", ["gemma3", "qwen3_moe", "mistral"])
def test_bits_of_other_families_do_not_depend_on_the_step(tinies: Tiny, family: str) -> None:
    runner, requested = load(tinies(family, "native-int8"), threads=2), requests()
    assert together(runner, requested, 13) == alone(runner, requested)


def test_the_torch_runner_says_the_same(tinies: Tiny) -> None:
    ours = alone(load(tinies("llama", "native-float32")), requests())
    theirs = alone(load(tinies("llama", "float32")), requests())
    for (sampled, prompts), (expected, expected_prompts) in zip(ours, theirs, strict=True):
        assert [each[0] for each in sampled] == [each[0] for each in expected]
        pairs = zip(
            [one for each in sampled for one in each[1]] + prompts,
            [one for each in expected for one in each[1]] + expected_prompts,
            strict=True,
        )
        for found, each in pairs:
            assert (found.token, found.rank) == (each.token, each.rank)
            assert math.isclose(found.logprob, each.logprob, abs_tol=1e-4)
            assert [token for token, _ in found.top] == [token for token, _ in each.top]
            for (_, ours_value), (_, value) in zip(found.top, each.top, strict=True):
                assert math.isclose(ours_value, value, abs_tol=1e-4)


def test_rows_are_reused_by_sequences_that_sample_otherwise(tinies: Tiny) -> None:
    runner, requested = load(tinies("llama", "native-int8"), max_num_seqs=2), mixture(9)
    expected = alone(load(tinies("llama", "native-int8")), requested)
    assert alone(runner, requested) == expected
    assert together(runner, requested, 10**9) == expected


def test_what_is_kept_of_sequences_goes_with_them(tinies: Tiny) -> None:
    runner = load(tinies("llama", "native-int8"), max_num_seqs=2)
    assert isinstance(runner, NativeRunner)
    banning = ResolvedSampling(max_tokens=1, seed=0, bad_words=((4, 5),))
    for _ in range(25):
        alone(runner, [([3, 4], banning)])
    assert len(runner._batch._block_tables) == 2
    assert not runner._batch._states
    assert len(runner._records._records) == len(runner._records._arrays) == 1
    assert len(runner._records._banning) == 1


def test_tokens_outside_the_vocabulary_never_reach_the_kernels(tinies: Tiny) -> None:
    runner = load(tinies("llama", "native-float32"))
    changes: list[dict[str, Any]] = [
        {"allowed_token_ids": (VOCABULARY,)},
        {"logit_bias": ((-1, 1.0),)},
        {"stop_token_ids": (VOCABULARY,), "min_tokens": 1},
        {"bad_words": ((4, VOCABULARY),)},
    ]
    for n, change in enumerate(changes):
        sampling = ResolvedSampling(max_tokens=2, seed=0, **change)
        entry = NewSequence(seq=n, tokens=(1, 2), prompt_len=2, sampling=sampling)
        with pytest.raises(InvalidRequest, match="vocabulary"):
            runner.compute(StepPlan(step=0, slices=[], new=[entry]))


def test_an_engine_of_its_own_imports_no_tensor_library(tinies: Tiny) -> None:
    folder = tinies("llama", "native-int8")
    program = f"""
import sys
from pathlib import Path
import headway.engine.build
from headway.config import EngineConfig
from headway.native.abi import HwKind
from headway.runner import build_runner
from headway.runner.native import NativeRunner
from headway.types import NewSequence, ResolvedSampling, Slice, StepPlan
config = EngineConfig(kv_cache_memory=2**22, threads=1, max_model_len=64)
runner = build_runner(config, Path({str(folder)!r})).runner
sampling = ResolvedSampling(max_tokens=1, seed=0)
entry = NewSequence(seq=0, tokens=(3, 4), prompt_len=2, sampling=sampling)
part = Slice(seq=0, start=0, tokens=(3, 4), blocks=(0,), outputs=1)
result = runner.compute(StepPlan(step=0, slices=[part], new=[entry]))
assert result.sampled[0].error is None
assert "torch" not in sys.modules and "safetensors" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", program], check=True)


def test_seconds_are_counted_by_kind_where_asked(tinies: Tiny) -> None:
    runner = load(tinies("qwen3_moe", "native-int8"))
    assert isinstance(runner, NativeRunner)
    before = alone(runner, requests()[:2])
    seconds = runner.measure()
    assert alone(runner, requests()[:2]) == before
    assert len(seconds) == len(HwKind) + 1
    assert all(each > 0 for each in seconds)


def test_settings_decide_what_is_built(tinies: Tiny) -> None:
    folder = tinies("llama", "native-int8")
    loaded = build_runner(
        EngineConfig(
            dtype="int8",
            threads=2,
            isa="portable",
            block_size=16,
            kv_cache_dtype="float32",
            kv_cache_memory=2**20,
            max_model_len=64,
        ),
        folder,
    )
    assert (loaded.hardware.backend, loaded.hardware.dtype, loaded.hardware.device) == (
        "native (portable)",
        "int8",
        "cpu",
    )
    assert (loaded.hardware.threads, loaded.limits.max_model_len) == (2, 64)
    # 4 layers x 2 heads x (keys and values of 16 components, the latter padded to 32 places)
    assert loaded.kv_bytes <= 2**20
    assert loaded.kv_bytes % loaded.num_blocks == 0
    small = build_runner(EngineConfig(kv_cache_memory=2**20, max_model_len=64), folder)
    assert small.num_blocks * 32 > loaded.num_blocks * 16  # bfloat16 by default


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"dtype": "int4"}, "dtype"),
        ({"backend": "reference"}, "backend"),
        ({"device": "cuda"}, "backend"),
        ({"block_size": 8}, "block_size"),
        ({"isa": "mmx"}, "isa"),
        ({"pin_threads": True, "threads": 4096}, "pin_threads"),
        ({"kv_cache_memory": 1000, "max_model_len": 64}, "kv_cache_memory"),
    ],
)
def test_what_cannot_be_is_refused(tinies: Tiny, changes: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        build_runner(EngineConfig(**changes), tinies("llama", "native-int8"))
    assert caught.value.field == field


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"backend": "native"}, "backend"),
        ({"isa": "portable"}, "isa"),
        ({"pin_threads": True}, "pin_threads"),
        ({"dtype": "int8"}, "dtype"),
        ({"dtype": "float32", "kv_cache_dtype": "int8"}, "kv_cache_dtype"),
    ],
)
def test_the_reference_refuses_native_settings(
    tiny: Path, changes: dict[str, Any], field: str
) -> None:
    with pytest.raises(InvalidRequest) as caught:
        build_runner(EngineConfig(device="cpu", **changes), tiny)
    assert caught.value.field == field
