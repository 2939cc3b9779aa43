"""Verdicts: how far each form of a model is from float32, as measured once on real text.

A verdict belongs to a model's content, not to its name. Those of the known models come with the
package; `headway doctor --quality` measures others and keeps them in the cache, where they stand
before the package's own. What is measured, and how, is no business of this module.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

import msgspec

from headway.checkpoint.packing import WeightFormat
from headway.config import KVCacheDtype, cache_home

MOST_LOSS = 0.01
"""A form passes where its perplexity is within this share of float32's."""
_SHIPPED = "known_verdicts.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasuredQuality:
    """One form, with one format of the KV cache, beside float32."""

    form: WeightFormat
    kv_cache: KVCacheDtype
    perplexity: float
    """Relative change: 0.01 is one per cent more than float32's."""
    divergence: float
    """Mean Kullback-Leibler divergence of next-token distributions from float32's, in nats."""
    agreement: float
    """Share of positions where the likeliest token is float32's."""

    @property
    def passes(self) -> bool:
        return abs(self.perplexity) <= MOST_LOSS


@dataclass(frozen=True, slots=True, kw_only=True)
class QualityReport:
    """All forms that were measured for one model."""

    digest: str
    """Of the model's content; see `headway.checkpoint.prepare.Source`."""
    model: str
    tokens: int
    """Positions scored."""
    perplexity: float
    """float32's own."""
    forms: tuple[MeasuredQuality, ...]

    def passes(self, form: WeightFormat, kv_cache: KVCacheDtype) -> bool:
        """Whether this form, with this KV cache, was measured and came close enough."""
        return any(row.passes for row in self.forms if (row.form, row.kv_cache) == (form, kv_cache))


def find_quality_report(digest: str) -> QualityReport | None:
    """The cache's verdict on this content, else the package's; None where nobody has measured."""
    try:
        return msgspec.json.decode(_path(digest).read_bytes(), type=QualityReport)
    except (OSError, msgspec.DecodeError):
        return next((known for known in shipped_quality_reports() if known.digest == digest), None)


def keep_quality_report(verdict: QualityReport) -> Path:
    """Store a verdict in the cache; returns its file."""
    path = _path(verdict.digest)
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{os.getpid()}")
    part.write_bytes(msgspec.json.format(msgspec.json.encode(verdict)))
    part.replace(path)
    return path


def shipped_quality_reports() -> list[QualityReport]:
    raw = resources.files("headway.checkpoint").joinpath(_SHIPPED).read_bytes()
    return msgspec.json.decode(raw, type=list[QualityReport])


def _path(digest: str) -> Path:
    return cache_home() / "quality" / f"{digest}.json"
