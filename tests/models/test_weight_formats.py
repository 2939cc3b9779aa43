"""Every family and weight format on the native kernels against the reference with equal weights.

What is left between them is how rows are rounded on the way into a matrix. These tiny random models
multiply such errors as no trained one does; a wrong weight would show as an error of about 1.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from headway.checkpoint import load_prepared, prepare
from headway.config import EngineConfig
from headway.native import available
from headway.runner import build_runner
from headway.runner.native import NativeRunner
from tests.models.families import FAMILIES, VOCABULARY, write_tiny
from tests.models.logits import native_logits, reference_logits
from tests.models.unpacked import unpack_model

BLOCK = 16
LENGTHS = (1, 12, 50, 81)
TOLERANCES = {"float32": 1e-5, "bfloat16": 0.03, "int8": 0.09, "int4": 0.09}
"""Of the error of a token's logits (root of the mean square), in standard deviations of all logits.

Half of the tokens must stay below: where rounding makes another expert the best, logits jump.
"""

pytestmark = pytest.mark.skipif(not available(), reason="the native library is not built")


@pytest.fixture(scope="module", params=sorted(FAMILIES))
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder: Path = tmp_path_factory.mktemp("formats") / "model"
    write_tiny(request.param, folder)
    return folder


@pytest.mark.parametrize("weight_format", TOLERANCES)
def test_logits(
    model: Path, weight_format: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HEADWAY_HOME", str(tmp_path / "home"))
    storage: Any = f"native-{weight_format}"
    prepared = prepare(str(model), dtype=storage, progress=False)
    runner = build_runner(
        EngineConfig(threads=1, block_size=BLOCK, kv_cache_memory=2**26, kv_cache_dtype="float32"),
        prepared.folder,
    ).runner
    assert isinstance(runner, NativeRunner)
    generator = torch.Generator().manual_seed(7)
    texts = [
        torch.randint(3, VOCABULARY, (length,), generator=generator).tolist() for length in LENGTHS
    ]
    found = native_logits(runner, texts, BLOCK)
    plain = unpack_model(prepared.folder, tmp_path / "plain")
    expected = reference_logits(load_prepared(plain), texts, BLOCK)
    errors = (found - expected).square().mean(dim=1).sqrt() / expected.std()
    print(f"{weight_format}: half of the errors are below {errors.median():.5f}")
    assert errors.median() < TOLERANCES[weight_format]
