"""A real model drafting for itself in another form: mostly right, at any temperature."""

from __future__ import annotations

from typing import Any

import pytest

from headway.checkpoint import prepare
from headway.config import DEFAULT_MODEL, EngineConfig
from headway.engine.build import build_engine
from headway.engine.draft_build import build_draft_model
from headway.native import available
from headway.runner import build_runner
from headway.scheduling.drafts import Wanted
from headway.text import Tokenizer
from headway.types import Request, ResolvedSampling
from headway.wire import PreparedDraft, Start
from tests.engine.every_draft import every_draft
from tests.engine.test_draft_build import answers

pytestmark = [
    pytest.mark.model,
    pytest.mark.skipif(not available(), reason="no native library"),
]

PROMPTS = (
    "The three largest cities of France are",
    "def fibonacci(n):\n    ",
    "Once upon a time, there was a",
)
LENGTH = 32


@pytest.mark.parametrize("dtype", ["int4", "float32"])
def test_the_same_model_in_another_form_is_mostly_right(
    dtype: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("headway.engine.build.speculation_of", every_draft)
    target = prepare(DEFAULT_MODEL, dtype="native-int8", progress=False)
    other = prepare(DEFAULT_MODEL, dtype=f"native-{dtype}", progress=False)  # type: ignore[arg-type]
    draft = PreparedDraft(prepared=str(other.folder), dtype=dtype, kv_cache_dtype="float32")
    config = EngineConfig(
        device="cpu",
        dtype="int8",
        kv_cache_dtype="bfloat16",
        max_model_len=256,
        kv_cache_memory=256 * 2**20,
    )
    tokenizer = Tokenizer.load(target.folder)
    requests = [
        Request(
            id=f"{text} {temperature}",
            prompt=tuple(tokenizer.encode(text)),
            sampling=ResolvedSampling(max_tokens=LENGTH, seed=n, temperature=temperature),
            arrival=0.0,
        )
        for n, text in enumerate(PROMPTS)
        for temperature in (0.0, 0.9)
    ]
    plain, _ = build_engine(Start(config=config, prepared=str(target.folder)))
    expected = answers(plain, requests)
    model = build_draft_model(config, draft, build_runner(config, target.folder))
    right = asked = 0
    for done in range(LENGTH - 1):
        wanted = [
            Wanted(request, [*request.prompt, *expected[request.id][:done]], 1)
            for request in requests
        ]
        for (request, _, _), guess in zip(wanted, model.propose(wanted), strict=True):
            asked += len(guess.tokens)
            right += list(guess.tokens) == expected[request.id][done : done + 1]
    assert asked == len(requests) * (LENGTH - 1)
    assert right > 0.5 * asked
    engine, _ = build_engine(Start(config=config, prepared=str(target.folder), draft=draft))
    assert answers(engine, requests) == expected
    stats = engine.stats()
    assert stats.accepted_tokens > 0.5 * stats.draft_tokens > 0
