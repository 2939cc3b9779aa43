"""Speculation with the real model: the same tokens, and the same log probabilities of them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from headway.checkpoint import Storage, prepare
from headway.config import DEFAULT_MODEL, EngineConfig
from headway.engine.build import build_engine
from headway.native import available
from headway.scheduling.speculation.speculation import AllDrafts, Speculation
from headway.text import Tokenizer
from headway.types import Request, ResolvedSampling, TokenEvent
from headway.wire import EngineStats, Start

pytestmark = pytest.mark.model

LIST = "apples, pears, plums, cherries, grapes, apples, pears, plums, cherries, grapes, apples,"
PROMPTS = (
    LIST,
    "def area(r):\n    return 3.14 * r * r\n\ndef volume(r):\n    return 3.14 * r * r",
    "The three largest cities of France are Paris, Marseille and Lyon. The three largest",
)
ALTERED: dict[str, Any] = {
    "temperature": 0.8,
    "repetition_penalty": 1.1,
    "frequency_penalty": 0.2,
    "presence_penalty": 0.1,
    "logprobs": 3,
}


@pytest.fixture(name="folder", scope="module")
def _folder() -> Path:
    storage: Storage = "native-int8" if available() else "float32"
    return prepare(DEFAULT_MODEL, dtype=storage, progress=False).folder


def answers(
    folder: Path, asked: list[Request], *, at_once: bool = True, speculation: bool = True
) -> tuple[dict[str, list[TokenEvent]], EngineStats]:
    """What each request is told, of a fresh engine."""
    config = EngineConfig(
        device="cpu", max_model_len=512, kv_cache_memory=2**27, speculation=speculation
    )
    engine, _ = build_engine(Start(config=config, prepared=str(folder)))
    told: dict[str, list[TokenEvent]] = {request.id: [] for request in asked}
    for batch in [asked] if at_once else [[request] for request in asked]:
        for request in batch:
            engine.add(request)
        while engine.has_work:
            events = engine.step()
            assert isinstance(events, list)
            for event in events:
                told[event.id].append(event)
    return told, engine.stats()


def requests(folder: Path, **changes: Any) -> list[Request]:
    encode: Callable[[str], list[int]] = Tokenizer.load(folder).encode
    return [
        Request(
            id=str(number),
            prompt=tuple(encode(text)),
            arrival=0.0,
            sampling=ResolvedSampling(
                **{"max_tokens": 40, "seed": number, "temperature": 0.0} | changes
            ),
        )
        for number, text in enumerate(PROMPTS)
    ]


def tokens(told: list[TokenEvent]) -> list[int]:
    return [token for event in told for token in event.tokens]


@pytest.mark.parametrize(
    "changes", [{}, {"temperature": 0.8}, ALTERED], ids=["greedy", "sampled", "penalties"]
)
def test_drafts_change_no_token_and_no_log_probability(
    folder: Path, monkeypatch: pytest.MonkeyPatch, changes: dict[str, Any]
) -> None:
    asked = requests(folder, **changes)
    plain, stats = answers(folder, asked, speculation=False)
    assert stats.drafts == 0
    monkeypatch.setattr(
        "headway.engine.build.speculation_of",
        lambda config, proposers, step_times: Speculation(proposers, AllDrafts(), most=6),
    )
    drafting, stats = answers(folder, asked)
    assert 0 < stats.accepted_tokens < stats.draft_tokens, "some are right and some are wrong"
    assert stats.computed_tokens > sum(len(each.prompt) for each in asked)
    for request in asked:
        one, other = plain[request.id], drafting[request.id]
        assert tokens(other) == tokens(one)
        assert [each for event in other for each in event.logprobs] == [
            each for event in one for each in event.logprobs
        ]


def test_an_engine_computes_the_drafts_that_pay(folder: Path) -> None:
    asked = requests(folder, max_tokens=80)[:1]
    drafting, stats = answers(folder, asked, at_once=False)
    assert stats.accepted_tokens > 0, "it repeats a list"
    plain, without = answers(folder, asked, at_once=False, speculation=False)
    assert tokens(drafting["0"]) == tokens(plain["0"])
    assert stats.step < without.step
