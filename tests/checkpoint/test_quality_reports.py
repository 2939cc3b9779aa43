"""Verdicts are found by content; the cache's stand before the package's own."""

from __future__ import annotations

from dataclasses import replace

from headway.checkpoint.known import known_models
from headway.checkpoint.quality_reports import (
    MeasuredQuality,
    QualityReport,
    find_quality_report,
    keep_quality_report,
    shipped_quality_reports,
)


def verdict(digest: str) -> QualityReport:
    row = MeasuredQuality(
        form="int8", kv_cache="bfloat16", perplexity=0.004, divergence=0.01, agreement=0.95
    )
    return QualityReport(digest=digest, model="m", tokens=10_240, perplexity=12.5, forms=(row,))


def test_a_verdict_is_kept_and_found() -> None:
    assert find_quality_report("0" * 24) is None
    path = keep_quality_report(verdict("0" * 24))
    assert find_quality_report("0" * 24) == verdict("0" * 24)
    path.write_text("{")
    assert find_quality_report("0" * 24) is None


def test_a_form_passes_within_one_per_cent_either_way() -> None:
    row = verdict("x").forms[0]
    for loss, passes in ((0.0, True), (0.01, True), (-0.01, True), (0.0101, False), (-0.02, False)):
        assert replace(row, perplexity=loss).passes == passes
    nan = replace(verdict("x"), forms=(replace(row, perplexity=float("nan")),))
    assert not nan.passes("int8", "bfloat16")
    assert verdict("x").passes("int8", "bfloat16")
    assert not verdict("x").passes("int8", "int8")
    assert not verdict("x").passes("int4", "bfloat16")


def test_the_known_models_have_verdicts() -> None:
    known = {model.sha256[:24] for model in known_models()}
    assert {found.digest for found in shipped_quality_reports()} == known
    for found in shipped_quality_reports():
        assert find_quality_report(found.digest) == found
        keep_quality_report(replace(found, tokens=1))
        kept = find_quality_report(found.digest)
        assert kept is not None
        assert kept.tokens == 1
