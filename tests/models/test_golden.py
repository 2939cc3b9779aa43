"""Every family and backend against transformers: logits within 1e-4, equal greedy tokens.

However the step is put together: alone, batched, chunked, after a prefix hit or a preemption.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch

from headway.checkpoint import Prepared, Storage, prepare
from headway.config import EngineConfig
from headway.native import available
from headway.runner import LoadedRunner, build_runner
from headway.runner.native import NativeRunner
from headway.types import ResolvedSampling
from tests.models.families import FAMILIES, VOCABULARY, write_tiny
from tests.models.logits import native_logits, reference_logits
from tests.runner.driver import Driver, Live

BLOCK = 16
STORAGES: dict[str, Storage] = {"reference": "float32", "native": "native-float32"}
NEW = 12
LENGTHS = (1, 3, 19, 40, 70)


@dataclass(frozen=True)
class Golden:
    loaded: LoadedRunner
    prompts: list[list[int]]
    continuations: list[list[int]]
    logits: list[torch.Tensor]
    """That follow each token of prompt and continuation but the last, [tokens, vocabulary]."""
    prepared: Prepared

    def driver(self) -> Driver:
        return Driver(self.loaded.runner, BLOCK)


@pytest.fixture(
    scope="module",
    params=[(family, backend) for family in sorted(FAMILIES) for backend in STORAGES],
    ids="-".join,
)
def golden(
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
) -> Golden:
    family, backend = request.param
    if backend == "native" and not available():
        pytest.skip("the native library is not built")
    folder: Path = tmp_path_factory.mktemp("tiny")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HEADWAY_HOME", str(folder / "home"))
        theirs = write_tiny(family, folder / "model")
        prepared = prepare(str(folder / "model"), dtype=STORAGES[backend], progress=False)
    loaded = build_runner(
        EngineConfig(
            dtype="float32", device="cpu", threads=1, block_size=BLOCK, kv_cache_memory=2**26
        ),
        prepared.folder,
    )
    generator = torch.Generator().manual_seed(7)
    prompts = [
        torch.randint(3, VOCABULARY, (length,), generator=generator).tolist() for length in LENGTHS
    ]
    found = [_continue(theirs, prompt) for prompt in prompts]
    return Golden(
        loaded, prompts, [tokens for tokens, _ in found], [rows for _, rows in found], prepared
    )


def greedy(**changes: Any) -> ResolvedSampling:
    return ResolvedSampling(max_tokens=NEW, seed=0, **changes)


def test_alone(golden: Golden) -> None:
    for prompt, expected in zip(golden.prompts, golden.continuations, strict=True):
        driver = golden.driver()
        live = driver.add(prompt, greedy())
        driver.finish([live])
        assert live.generated == expected


def test_logits_of_one_forward_pass_are_within_1e_4(golden: Golden) -> None:
    texts = [p + c[:-1] for p, c in zip(golden.prompts, golden.continuations, strict=True)]
    runner = golden.loaded.runner
    if isinstance(runner, NativeRunner):
        logits = native_logits(runner, texts, BLOCK)
    else:
        logits = reference_logits(golden.prepared, texts, BLOCK)
    expected = torch.cat(golden.logits)
    assert expected.std() > 0.5
    torch.testing.assert_close(logits, expected, atol=1e-4, rtol=0)


def test_logprobs_are_within_1e_4(golden: Golden) -> None:
    driver = golden.driver()
    lives = [driver.add(p, greedy(logprobs=20, prompt_logprobs=20)) for p in golden.prompts]
    driver.finish(lives, chunk=16)
    for live, logits in zip(lives, golden.logits, strict=True):
        rows, checked = torch.log_softmax(logits, dim=-1), 0
        prompt = [each for found in live.prompt_logprobs for each in found.logprobs]
        told = [*prompt, *(found for each in live.sampled for found in each.logprobs)]
        for row, each in zip(rows, told, strict=True):
            assert each is not None
            assert len(each.top) == 20
            for token, logprob in (*each.top, (each.token, each.logprob)):
                assert math.isclose(row[token].item(), logprob, abs_tol=1e-4)
                checked += 1
            assert each.rank == int((row > row[each.token]).sum()) + 1
        assert checked == 21 * len(rows)


def test_batched(golden: Golden) -> None:
    driver = golden.driver()
    lives = [driver.add(prompt, greedy()) for prompt in golden.prompts]
    driver.finish(lives)
    assert [live.generated for live in lives] == golden.continuations


@pytest.mark.parametrize("chunk", [1, 7, 16])
def test_chunked_and_mixed(golden: Golden, chunk: int) -> None:
    driver = golden.driver()
    lives = [driver.add(prompt, greedy()) for prompt in golden.prompts]
    driver.finish(lives, chunk=chunk)
    assert [live.generated for live in lives] == golden.continuations


def test_prefix_hit(golden: Golden) -> None:
    driver = golden.driver()
    first = [driver.add(prompt, greedy()) for prompt in golden.prompts]
    driver.finish(first)
    again = [_hit(driver, live) for live in first]
    driver.finish(again)
    assert max(live.computed for live in again) > BLOCK
    assert [live.generated for live in again] == golden.continuations


def test_preempted_and_resumed(golden: Golden) -> None:
    driver = golden.driver()
    lives = [driver.add(prompt, greedy()) for prompt in golden.prompts]
    for step in range(NEW // 2):
        driver.run([(live, 10**9) for live in lives])
        if step % 2:
            driver.preempt(lives[step % len(lives)])
    driver.preempt(lives[-1])
    driver.run([(lives[-1], 30)])
    driver.preempt(lives[-1])
    driver.finish(lives)
    assert [live.generated for live in lives] == golden.continuations


def _hit(driver: Driver, live: Live) -> Live:
    """The same prompt again on the blocks of its first run; its last token is always computed."""
    full = (live.prompt_len - 1) // BLOCK
    prompt = live.tokens[: live.prompt_len]
    return driver.add(prompt, live.sampling, blocks=live.blocks[:full])


@torch.no_grad()
def _continue(model: Any, prompt: list[int]) -> tuple[list[int], torch.Tensor]:
    """Greedy tokens, and the logits that follow each token but the last."""
    tokens = list(prompt)
    for _ in range(NEW):
        logits = model(torch.tensor([tokens])).logits[0].float()
        tokens.append(int(logits[-1].argmax()))
    return tokens[len(prompt) :], model(torch.tensor([tokens[:-1]])).logits[0].float()
