"""A draft model from its name to the engine: prepared, and refused if it has other tokens."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer, models

from headway.checkpoint import Prepared
from headway.client import EngineClient
from headway.config import EngineConfig
from headway.errors import HeadwayError, InvalidRequest, ModelError, ModelNotFound
from headway.llm import AsyncLLM
from headway.llm import draft_model as module
from headway.llm.draft_model import check_same_tokens, is_damaged, ready_draft
from headway.native import available
from headway.types import SamplingParams
from headway.wire import EngineStats, PreparedDraft
from tests.engine.every_draft import COMMAND
from tests.llm.support import engine_client, tokenizer_json, write_prepared
from tests.models.families import write_tiny


@pytest.fixture(name="model")
def _model(tmp_path: Path) -> Prepared:
    (tmp_path / "model").mkdir()
    return write_prepared(tmp_path / "model")


@pytest.fixture(name="draft")
def _draft(tmp_path: Path) -> Prepared:
    (tmp_path / "draft").mkdir()
    return write_prepared(tmp_path / "draft")


def give_words(prepared: Prepared, **changes: str) -> None:
    """Let a prepared model's tokenizer have a word for each token, and others for some; none for
    those that are given an empty one."""
    words = {f"t{number}": f"word{number}" for number in range(2000)} | changes
    vocab = {word: int(name[1:]) for name, word in words.items() if word}
    Tokenizer(models.WordLevel(vocab, unk_token="word0")).save(
        str(prepared.folder / "tokenizer.json")
    )


def speculating(draft: Prepared | str, **changes: Any) -> EngineConfig:
    name = draft if isinstance(draft, str) else str(draft.folder)
    return EngineConfig(
        speculative_config={"method": "draft_model", "model": name},
        **changes,
    )


def test_the_same_tokens_are_accepted_however_they_are_written(
    model: Prepared, draft: Prepared
) -> None:
    config = EngineConfig()
    check_same_tokens(config, model, draft)
    (draft.folder / "tokenizer.json").write_text(json.dumps(json.loads(tokenizer_json()), indent=9))
    check_same_tokens(config, model, draft)
    give_words(model)
    give_words(draft, t1500="", t1999="")
    check_same_tokens(config, model, draft)
    check_same_tokens(config, draft, model)


def test_a_token_that_means_something_else_is_told(model: Prepared, draft: Prepared) -> None:
    give_words(model)
    give_words(draft, t1500="other", t1501="others")
    with pytest.raises(InvalidRequest, match="token 1500 is 'other', and not 'word1500'") as told:
        check_same_tokens(EngineConfig(), model, draft)
    assert told.value.field == "speculative_config"


def test_another_number_of_tokens_is_told(model: Prepared, draft: Prepared) -> None:
    larger = replace(draft, config=replace(draft.config, vocab_size=2048))
    with pytest.raises(InvalidRequest, match="2048 tokens, and not 2000; choose a smaller model"):
        check_same_tokens(EngineConfig(), model, larger)


def test_a_tokenizer_in_place_of_the_models_is_the_one_that_counts(
    model: Prepared, draft: Prepared, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    give_words(model)
    (tmp_path / "given").mkdir()
    write_prepared(tmp_path / "given")
    monkeypatch.setattr("headway.llm.tokenizer_choice.prepare_tokenizer", Path)
    check_same_tokens(EngineConfig(tokenizer=str(tmp_path / "given")), model, draft)
    with pytest.raises(InvalidRequest, match="another vocabulary"):
        check_same_tokens(EngineConfig(), model, draft)


@pytest.mark.parametrize(
    ("given", "backend", "dtype"),
    [
        ("auto", "native", "int8"),
        ("float32", "native", "int8"),
        ("int4", "native", "int4"),
        ("auto", "reference", "auto"),
        ("bfloat16", "reference", "bfloat16"),
    ],
)
def test_it_is_prepared_for_the_backend_of_the_model_in_few_bits_where_that_can_be(
    given: Any,
    backend: Any,
    dtype: str,
    model: Prepared,
    draft: Prepared,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[tuple[EngineConfig, dict[str, object]]] = []

    def ready(config: EngineConfig, **how: object) -> tuple[EngineConfig, Prepared]:
        asked.append((config, how))
        chosen = "float32" if config.dtype == "auto" else config.dtype
        return replace(config, dtype=chosen, kv_cache_dtype="bfloat16"), draft

    monkeypatch.setattr(module, "ready_model", ready)
    config = speculating("tiny", dtype=given, tokenizer=None)
    settled = replace(config, backend=backend, device="cpu")
    found = ready_draft(config, settled, model, progress=False, verify=True)
    ((seen, how),) = asked
    assert (seen.model, seen.backend, seen.device) == ("tiny", backend, "cpu")
    assert seen.dtype == dtype
    assert how == {"progress": False, "verify": True, "stop": None}
    assert found == PreparedDraft(
        prepared=str(draft.folder),
        dtype="float32" if dtype == "auto" else dtype,
        kv_cache_dtype="bfloat16",
    )


def test_without_one_nothing_is_prepared(model: Prepared, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "ready_model", None)
    for config in (EngineConfig(), EngineConfig(speculative_config={"method": "ngram"})):
        assert ready_draft(config, config, model) is None


@pytest.mark.parametrize("error", [ModelNotFound("x: no such model"), ModelError("x: damaged")])
def test_what_is_wrong_with_it_names_the_setting(
    error: HeadwayError, model: Prepared, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(module, "ready_model", fail)
    config = speculating("x")
    with pytest.raises(type(error), match="speculative_config: the draft model: x: ") as caught:
        ready_draft(config, config, model)
    assert caught.value.field == "speculative_config"


def test_damage_is_looked_for_in_both(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model, looked = write_prepared(tmp_path), []

    def damaged(folder: Path, *, stop: object) -> list[str]:
        looked.append(str(folder))
        return ["weights"] if str(folder) == "bad" else []

    monkeypatch.setattr(module, "damaged_files", damaged)
    stop: Any = None
    good, bad = (
        PreparedDraft(prepared=name, dtype="int8", kv_cache_dtype="int8") for name in ("ok", "bad")
    )
    assert not is_damaged(model, None, stop)
    assert not is_damaged(model, good, stop)
    assert is_damaged(model, bad, stop)
    assert looked == [str(tmp_path)] * 2 + ["ok"] + [str(tmp_path), "bad"]


def test_the_engine_is_told_of_it(
    model: Prepared, draft: Prepared, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[PreparedDraft | None] = []

    async def started(*_: object, draft: PreparedDraft | None, **__: object) -> EngineClient:
        told.append(draft)
        raise InvalidRequest("enough", field="seed")

    def ready(config: EngineConfig, **_: object) -> tuple[EngineConfig, Prepared]:
        settled = replace(config, dtype="int8", kv_cache_dtype="int8")
        return settled, draft if config.model == str(draft.folder) else model

    monkeypatch.setattr("headway.llm.async_llm.ready_model", ready)
    monkeypatch.setattr(module, "ready_model", ready)
    monkeypatch.setattr(EngineClient, "start", started)
    for config in (speculating(draft), EngineConfig()):
        with pytest.raises(InvalidRequest, match="enough"):
            asyncio.run(AsyncLLM.start(config))
    prepared = PreparedDraft(prepared=str(draft.folder), dtype="int8", kv_cache_dtype="int8")
    assert told == [prepared, None]


@pytest.mark.skipif(not available(), reason="no native library")
def test_an_engine_that_is_killed_goes_on_with_its_draft_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the tokens of an engine that has none, and drafts in the second one as in the first."""
    monkeypatch.setenv("HEADWAY_HOME", str(tmp_path / "home"))
    write_tiny("llama", tmp_path / "tiny")
    tiny = str(tmp_path / "tiny")
    settings: dict[str, Any] = {
        "model": tiny,
        "device": "cpu",
        "dtype": "float32",
        "threads": 1,
        "kv_cache_memory": 2**22,
    }
    params = SamplingParams(temperature=0.9, seed=3, n=8, max_tokens=200, ignore_eos=True)

    async def answer(llm: AsyncLLM) -> list[list[int]]:
        tokens: list[list[int]] = [[] for _ in range(8)]
        async for delta in llm.stream([3, 4, 5], params):
            tokens[delta.index] += delta.token_ids
        return tokens

    async def plain() -> list[list[int]]:
        async with await AsyncLLM.start(EngineConfig(**settings), progress=False) as llm:
            return await answer(llm)

    async def killed() -> list[list[int]]:
        config = speculating(tiny, **settings)
        before: list[int] = []

        def kill(events: object, stats: EngineStats, now: float) -> None:
            if not before and stats.accepted_tokens:
                before.append(stats.accepted_tokens)
                os.kill(engine_client(llm).pid or 0, signal.SIGKILL)

        async with await AsyncLLM.start(config, command=COMMAND, progress=False) as llm:
            llm.client.subscribe(kill)
            tokens = await answer(llm)
            assert llm.client.restarts == 1
            assert before[0] < llm.client.stats.accepted_tokens
            return tokens

    assert asyncio.run(killed()) == asyncio.run(plain())
