"""The quality gate around the comparing program: texts, candidates, reports, and failures."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from headway.checkpoint.quality_reports import find_quality_report
from headway.cli.doctor import quality_table
from headway.config import EngineConfig
from headway.errors import EngineError, InvalidRequest
from headway.perf.quality.evaluate import ROWS, evaluate, take_contexts
from headway.text import Tokenizer
from tests.checkpoint.conftest import save_tokenizer
from tests.checkpoint.test_gguf import write

FAKE = """
import json, sys
asked = json.loads(sys.stdin.read())
rows, contexts = asked["candidates"], asked["contexts"]
assert rows[0]["config"]["dtype"] == rows[0]["config"]["kv_cache_dtype"] == "float32"
assert {row["config"]["threads"] for row in rows} == {3}
names = [f'{row["config"]["dtype"]}-{row["config"]["kv_cache_dtype"]}' for row in rows]
print(*names, file=open(sys.argv[1], "w"))
tokens = 0
for done, context in enumerate(contexts):
    tokens += len(context) - 1
    totals = [
        dict(loss=tokens * (2 + n / 1000), divergence=tokens * n / 10, agreement=tokens - n)
        for n in range(len(rows))
    ]
    print(json.dumps(dict(contexts=done + 1, tokens=tokens, totals=totals)), flush=True)
"""


@pytest.fixture
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A small GGUF model, and a machine on which the native kernels seem to be built."""
    monkeypatch.setenv("HEADWAY_HOME", str(tmp_path / "home"))
    monkeypatch.setattr("headway.native.available", lambda: True)
    write(tmp_path / "m.gguf")
    return str(tmp_path / "m.gguf")


def test_a_report_is_made_of_the_sums(model: str, tmp_path: Path) -> None:
    said: list[tuple[int, int]] = []
    report = evaluate(
        EngineConfig(model=model, threads=3),
        least_tokens=300,
        on_progress=lambda *counts: said.append(counts),
        command=(sys.executable, "-c", FAKE, str(tmp_path / "names")),
    )
    assert (tmp_path / "names").read_text().split() == [f"{form}-{cache}" for form, cache in ROWS]
    assert report.tokens == 3 * 128
    assert report.perplexity == pytest.approx(2.718281828**2)
    assert [(row.form, row.kv_cache) for row in report.forms] == list(ROWS[1:])
    assert report.forms[0].perplexity == pytest.approx(0.0010005, rel=1e-4)
    assert report.forms[1].divergence == pytest.approx(0.2)
    assert report.forms[2].agreement == pytest.approx((384 - 3) / 384)
    assert said == [(1, 3), (2, 3), (3, 3)]
    assert find_quality_report(report.digest) == report
    lines = list(quality_table(report))
    assert len(lines) == 2 + len(report.forms)
    assert "+0.10%" in lines[2]


def test_a_program_that_fails_leaves_no_report(model: str) -> None:
    config = EngineConfig(model=model)
    for code, reason in (
        ("raise SystemExit(7)", "exit code 7"),
        ('print(\'{"contexts": 0, "tokens": 0, "totals": [], "error": "no room"}\')', "no room"),
    ):
        command = (sys.executable, "-c", "import sys; sys.stdin.read(); " + code)
        with pytest.raises(EngineError, match=reason):
            evaluate(config, least_tokens=128, command=command)


def test_without_the_native_kernels_nothing_is_measured(
    model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("headway.native.available", lambda: False)
    with pytest.raises(InvalidRequest, match="not built"):
        evaluate(EngineConfig(model=model))


def test_contexts_come_from_all_over_the_text(tmp_path: Path) -> None:
    (tmp_path / "text.json").write_text('{"eos_token_ids": [256]}')
    save_tokenizer(tmp_path)
    tokenizer = Tokenizer.load(tmp_path)
    contexts = list(take_contexts(tokenizer, length=64, least_tokens=1000))
    assert len(contexts) == 16
    assert {len(context) for context in contexts} == {65}
    assert len(set(contexts)) == 16
    assert tokenizer.decode(contexts[0]).startswith('The "assert" statement')


def test_contexts_begin_as_the_models_texts_do(tmp_path: Path) -> None:
    (tmp_path / "text.json").write_text(
        '{"eos_token_ids": [256], "bos_token_id": 256, "add_bos": true}'
    )
    save_tokenizer(tmp_path)
    for context in take_contexts(Tokenizer.load(tmp_path), length=64, least_tokens=100):
        assert context[0] == 256
        assert 256 not in context[1:]
        assert len(context) == 65
