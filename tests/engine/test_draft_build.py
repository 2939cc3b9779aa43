"""A draft model beside another one: in which memory, for which lengths, and that it drafts."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest

from headway.checkpoint import Storage, load_prepared, prepare
from headway.config import EngineConfig
from headway.engine.build import build_engine
from headway.engine.draft_build import KV_SHARE, beside_draft, build_draft_model, draft_settings
from headway.engine.loop import Engine
from headway.errors import InvalidRequest
from headway.logs import Event
from headway.native import available
from headway.runner import LoadedRunner, build_runner
from headway.scheduling.drafts import Wanted
from headway.types import Request, ResolvedSampling
from headway.wire import PreparedDraft, Start
from tests.engine.every_draft import MOST, every_draft
from tests.models.families import write_tiny

pytestmark = pytest.mark.skipif(not available(), reason="no native library")


@pytest.fixture(name="home", scope="module")
def _home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("draft")
    write_tiny("llama", home / "model")
    return home


def prepared(home: Path, storage: str) -> Path:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HEADWAY_HOME", str(home / "home"))
        return prepare(str(home / "model"), dtype=cast(Storage, storage), progress=False).folder


def draft_of(home: Path, dtype: Any = "float32") -> PreparedDraft:
    folder = prepared(home, f"native-{dtype}")
    return PreparedDraft(prepared=str(folder), dtype=dtype, kv_cache_dtype="float32")


def config_of(**changes: Any) -> EngineConfig:
    settings: dict[str, Any] = {"threads": 1, "device": "cpu", "kv_cache_memory": 2**22}
    return EngineConfig(**{**settings, "max_model_len": 128, **changes})


def loaded_of(home: Path, config: EngineConfig) -> LoadedRunner:
    return build_runner(config, prepared(home, "native-float32"))


@pytest.mark.parametrize(
    ("given", "left"),
    [
        ({"kv_cache_memory": 8000}, {"kv_cache_memory": 7000}),
        ({"kv_cache_memory": 1}, {"kv_cache_memory": 1}),
        (
            {"kv_cache_memory": None, "gpu_memory_utilization": 0.8},
            {"gpu_memory_utilization": pytest.approx(0.7)},
        ),
        ({"kv_cache_memory": None}, {}),
    ],
)
def test_the_other_model_leaves_it_a_share_of_the_memory(
    given: dict[str, Any], left: dict[str, Any]
) -> None:
    config = config_of(**given)
    found = beside_draft(config)
    for name in ("kv_cache_memory", "gpu_memory_utilization"):
        assert getattr(found, name) == left.get(name, getattr(config, name))


def test_both_caches_together_take_the_memory_that_was_given(
    home: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    config = config_of()
    rest = beside_draft(config)
    beside = loaded_of(home, rest)
    build_draft_model(rest, draft_of(home), beside)
    lines = [each.msg for each in caplog.records if isinstance(each.msg, Event)]
    (told,) = [each.fields for each in lines if each.name == "draft_model_ready"]
    fields = cast("dict[str, Any]", told)
    assert config.kv_cache_memory is not None
    share = fields["kv_bytes"] / config.kv_cache_memory
    assert share == pytest.approx(KV_SHARE, rel=0.1)
    assert fields["kv_bytes"] + beside.kv_bytes <= config.kv_cache_memory
    assert fields["model"] == "model"
    assert fields["max_model_len"] == 128
    assert fields["blocks"] > 0


def test_it_takes_sequences_as_long_as_the_other_or_as_its_memory_holds(home: Path) -> None:
    """A cache in float32 takes 4 x 2 x 2 x 16 x 4 = 1,024 bytes for each token."""
    model = load_prepared(prepared(home, "native-float32")).config
    config = config_of(record="steps.jsonl", tokenizer="other", kv_cache_dtype="int8")
    beside = loaded_of(home, config_of())
    for kv_bytes, length in ((7 * 128 * 1024, 128), (7 * 128 * 1024 - 8, None)):
        found = draft_settings(config, draft_of(home), replace(beside, kv_bytes=kv_bytes), model)
        assert found.max_model_len == length
        assert found.kv_cache_memory == kv_bytes // 7
        assert (found.dtype, found.kv_cache_dtype) == ("float32", "float32")
    short = replace(model, max_position=64)
    assert draft_settings(config, draft_of(home), beside, short).max_model_len == 64


def test_memory_that_holds_not_one_block_of_it_is_refused(home: Path) -> None:
    beside = replace(loaded_of(home, config_of()), kv_bytes=7000)
    with pytest.raises(InvalidRequest, match="larger --kv-cache-memory") as caught:
        build_draft_model(config_of(), draft_of(home), beside)
    assert caught.value.field == "kv_cache_memory"


def asked(number: int, **changes: Any) -> Request:
    settings: dict[str, Any] = {"max_tokens": 40, "seed": number, "temperature": 0.9}
    return Request(
        id=str(number),
        prompt=tuple(range(3, 3 + 9 * (number + 1))),
        sampling=ResolvedSampling(**{**settings, **changes}),
        arrival=0.0,
    )


def answers(engine: Engine, requests: Sequence[Request]) -> dict[str, list[int]]:
    """Of each request, which runs alone."""
    told: dict[str, list[int]] = {}
    for request in requests:
        engine.add(request)
        while engine.has_work:
            events = engine.step()
            assert isinstance(events, list)
            for event in events:
                assert event.error is None
                told.setdefault(event.id, []).extend(event.tokens)
    return told


VARIETY: list[dict[str, Any]] = [
    {},
    {"temperature": 0.0},
    {"repetition_penalty": 1.3, "frequency_penalty": 0.5},
    {"min_tokens": 12, "stop_token_ids": (5, 6, 7), "bad_words": ((8, 9), (10,))},
    {"top_k": 7, "top_p": 0.8, "logit_bias": ((11, 4.0),), "logprobs": 2},
]


def test_the_same_model_guesses_every_token_however_it_is_sampled(home: Path) -> None:
    """Its random numbers, penalties and bans are those of the sampling that it guesses for."""
    config = config_of()
    folder = str(prepared(home, "native-float32"))
    engine, _ = build_engine(Start(config=config, prepared=folder))
    requests = [asked(n, **changes) for n, changes in enumerate(VARIETY)]
    plain = answers(engine, requests)
    draft = build_draft_model(config, draft_of(home), loaded_of(home, config))
    for request in requests:
        generated = plain[request.id]
        for done in range(0, len(generated), 4):
            tokens = [*request.prompt, *generated[:done]]
            (guess,) = draft.propose([Wanted(request, tokens, 4)])
            expected = generated[done : done + 4]
            if expected[-1] in request.sampling.stop_token_ids:
                expected = expected[:-1]
            assert list(guess.tokens)[: len(expected)] == expected
        draft.forget(request.id)
        draft.check()


@pytest.mark.parametrize("dtype", ["float32", "int8", "int4"])
def test_an_engine_with_a_draft_model_gives_the_same_tokens(
    home: Path, dtype: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("headway.engine.build.speculation_of", every_draft)
    folder = str(prepared(home, "native-float32"))
    requests = [asked(n, **changes) for n, changes in enumerate(VARIETY)]
    plain, _ = build_engine(Start(config=config_of(), prepared=folder))
    expected = answers(plain, requests)
    start = Start(config=config_of(), prepared=folder, draft=draft_of(home, dtype))
    engine, info = build_engine(start)
    assert answers(engine, requests) == expected
    stats = engine.stats()
    assert 0 < stats.accepted_tokens <= stats.draft_tokens
    assert stats.step < plain.stats().step
    if dtype == "float32":
        assert stats.accepted_tokens == stats.draft_tokens
        assert stats.step <= 2 * plain.stats().step / MOST
    assert info.kv_bytes <= (1 - KV_SHARE) * 2**22


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="threads cannot be pinned")
def test_both_models_have_their_threads_on_the_same_processors(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first one binds the thread that the second one is loaded by to one of them."""
    allowed = os.sched_getaffinity(0)
    if len(allowed) < 2:
        pytest.skip("there is one processor")
    start = Start(
        config=config_of(pin_threads=True, threads=2),
        prepared=str(prepared(home, "native-float32")),
        draft=draft_of(home),
    )
    monkeypatch.setattr("headway.engine.build.speculation_of", every_draft)
    with ThreadPoolExecutor(1) as threads:  # one that may be bound
        engine, _ = threads.submit(build_engine, start).result()
        assert threads.submit(os.sched_getaffinity, 0).result() == {min(allowed)}
        assert len(answers(engine, [asked(0)])["0"]) == 40
        assert engine.stats().accepted_tokens > 0
    assert os.sched_getaffinity(0) == allowed
