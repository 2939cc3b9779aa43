"""Comparing forms token by token: sums computed by hand, and a real run in its own process."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import msgspec
import numpy as np
import pytest

from headway.config import EngineConfig
from headway.errors import InvalidRequest
from headway.perf.quality.evaluate import QualityCandidate, QualityComparison, QualityProgress
from headway.perf.quality.program import compare, measure
from tests.runner.conftest import Tiny

CONTEXTS = ((5, 9, 2, 7, 7, 3), tuple(n % 150 for n in range(1, 200)))


def candidate(tinies: Tiny, storage: Any, **settings: Any) -> QualityCandidate:
    config = EngineConfig(max_model_len=224, max_num_seqs=1, threads=1, **settings)
    return QualityCandidate(prepared=str(tinies("llama", storage)), config=config)


def test_sums_of_two_rows() -> None:
    half = np.log(np.array([[0.5, 0.5], [0.9, 0.1]], dtype=np.float32)) + 3
    skew = np.log(np.array([[0.75, 0.25], [0.2, 0.8]], dtype=np.float32))
    found = measure(half, skew, np.array([0, 1]))
    assert found.loss == pytest.approx(-np.log(0.75) - np.log(0.8), rel=1e-5)
    first = 0.5 * np.log(0.5 / 0.75) + 0.5 * np.log(0.5 / 0.25)
    second = 0.9 * np.log(0.9 / 0.2) + 0.1 * np.log(0.1 / 0.8)
    assert found.divergence == pytest.approx(first + second, rel=1e-5)
    assert found.agreement == 1  # a tie goes to the first, as it does in skew; then 0 against 1


def test_rows_beyond_the_first_chunk_count() -> None:
    scores = np.random.default_rng(3).standard_normal((40, 7)).astype(np.float32)
    found = measure(scores, scores, np.arange(40) % 7)
    assert found.agreement == 40
    assert found.divergence == 0
    exact = scores.astype(np.float64)
    logs = exact - np.log(np.exp(exact).sum(axis=1, keepdims=True))
    assert found.loss == pytest.approx(-logs[np.arange(40), np.arange(40) % 7].sum(), rel=1e-5)


def test_forms_beside_float32(tinies: Tiny) -> None:
    storages = ("native-float32", "native-float32", "native-bfloat16", "native-int8")
    candidates = tuple(candidate(tinies, storage) for storage in storages)
    *_, last = compare(QualityComparison(candidates=candidates, contexts=CONTEXTS))
    assert (last.contexts, last.tokens) == (2, 5 + 198)
    base, same, half, eight = last.totals
    assert same == base
    assert (base.divergence, base.agreement) == (0, last.tokens)
    assert 0 < half.divergence < eight.divergence < 0.1 * last.tokens
    assert half.loss != base.loss


def test_a_program_of_its_own(tinies: Tiny) -> None:
    both = (candidate(tinies, "native-float32"), candidate(tinies, "native-int8"))
    comparison = QualityComparison(candidates=both, contexts=CONTEXTS)
    done = subprocess.run(
        [sys.executable, "-m", "headway.perf.quality.program"],
        input=msgspec.json.encode(comparison),
        stdout=subprocess.PIPE,
        check=True,
    )
    reports = [msgspec.json.decode(line, type=QualityProgress) for line in done.stdout.splitlines()]
    assert reports == list(compare(comparison))
    assert [report.contexts for report in reports] == [1, 2]


def test_only_the_native_backend_is_compared(tinies: Tiny) -> None:
    comparison = QualityComparison(candidates=(candidate(tinies, "float32"),), contexts=CONTEXTS)
    with pytest.raises(InvalidRequest, match="native"):
        next(compare(comparison))
    done = subprocess.run(
        [sys.executable, "-m", "headway.perf.quality.program"],
        input=msgspec.json.encode(comparison),
        stdout=subprocess.PIPE,
        check=False,
    )
    assert done.returncode == 1
    assert "native" in msgspec.json.decode(done.stdout, type=QualityProgress).error
