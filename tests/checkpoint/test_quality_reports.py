"""Reports are found by content; the cache's stand before the package's own."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from headway.checkpoint.known import known_models
from headway.checkpoint.quality_reports import (
    MeasuredQuality,
    QualityReport,
    find_quality_report,
    keep_quality_report,
    shipped_quality_reports,
)


def report(digest: str) -> QualityReport:
    row = MeasuredQuality(
        form="int8", kv_cache="bfloat16", perplexity=0.004, divergence=0.01, agreement=0.95
    )
    return QualityReport(digest=digest, model="m", tokens=10_240, perplexity=12.5, forms=(row,))


def test_a_report_is_kept_and_found() -> None:
    assert find_quality_report("0" * 24) is None
    path = keep_quality_report(report("0" * 24))
    assert find_quality_report("0" * 24) == report("0" * 24)
    path.write_text("{")
    assert find_quality_report("0" * 24) is None


def test_a_report_that_an_earlier_version_kept_is_found(home: Path) -> None:
    row = """{"form": "int8", "kv_cache": "bfloat16", "perplexity": 0.004, "divergence": 0.01,
              "agreement": 0.95}"""
    text = '{"digest": "x", "model": "m", "tokens": 10240, "perplexity": 12.5, "forms": [%s]}'
    (home / "quality").mkdir(parents=True)
    (home / "quality" / "x.json").write_text(text % row)
    assert find_quality_report("x") == report("x")


def test_a_weight_format_passes_within_one_per_cent_either_way() -> None:
    row = report("x").forms[0]
    for loss, passes in ((0.0, True), (0.01, True), (-0.01, True), (0.0101, False), (-0.02, False)):
        assert replace(row, perplexity=loss).passes == passes
    nan = replace(report("x"), forms=(replace(row, perplexity=float("nan")),))
    assert not nan.passes("int8", "bfloat16")
    assert report("x").passes("int8", "bfloat16")
    assert not report("x").passes("int8", "int8")
    assert not report("x").passes("int4", "bfloat16")


def test_the_known_models_have_reports() -> None:
    known = {model.sha256[:24] for model in known_models()}
    assert {found.digest for found in shipped_quality_reports()} == known
    for found in shipped_quality_reports():
        assert find_quality_report(found.digest) == found
        keep_quality_report(replace(found, tokens=1))
        kept = find_quality_report(found.digest)
        assert kept is not None
        assert kept.tokens == 1
