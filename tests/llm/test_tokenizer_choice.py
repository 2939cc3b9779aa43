"""A tokenizer given in the settings takes the place of the model's own."""

from __future__ import annotations

from pathlib import Path

import pytest

from headway.llm import LLM
from tests.client.fake_engine import COMMAND
from tests.llm.support import serve_fake, write_prepared


def test_a_given_tokenizer_replaces_the_models(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, other = tmp_path / "model", tmp_path / "other"
    model.mkdir()
    other.mkdir()
    serve_fake(monkeypatch, write_prepared(model))
    write_prepared(other)
    (model / "tokenizer.json").write_text("{")
    monkeypatch.setattr("headway.llm.tokenizer_choice.prepare_tokenizer", Path)
    with LLM(command=COMMAND, tokenizer=str(other)) as llm:
        assert llm.get_tokenizer().decode(llm.get_tokenizer().encode("ok")) == "ok"
