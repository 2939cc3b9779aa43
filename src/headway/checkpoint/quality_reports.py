"""Quality reports: how far each weight format of a model is from float32, measured on real text.

A report belongs to a model's content, not to its name. Those of the known models come with the
package; `headway doctor --quality` measures others and keeps them in the cache, where they stand
before the package's own. What is measured, and how, is no business of this module.

The fields are the keys of the files that users keep, which is why weight formats are `form` here.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from headway.checkpoint.packing import WeightFormat
from headway.codec import decode, encode, read_bytes, write_bytes
from headway.config import KVCacheDtype
from headway.environment import cache_home
from headway.errors import InvalidRequest

MOST_LOSS = 0.01
"""A weight format passes where its perplexity is within this share of float32's."""
_SHIPPED = "known_quality_reports.json"

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasuredQuality:
    """One weight format, with one format of the KV cache, beside float32."""

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
    """All weight formats that were measured for one model."""

    digest: str
    """Of the model's content; see `headway.checkpoint.inventory.Source`."""
    model: str
    tokens: int
    """Positions scored."""
    perplexity: float
    """float32's own."""
    forms: tuple[MeasuredQuality, ...]

    def passes(self, weight_format: WeightFormat, kv_cache: KVCacheDtype) -> bool:
        """Whether this format, with this KV cache, was measured and came close enough."""
        wanted = (weight_format, kv_cache)
        return any(row.passes for row in self.forms if (row.form, row.kv_cache) == wanted)


def find_quality_report(digest: str) -> QualityReport | None:
    """The cache's report on this content, else the package's; None where nobody has measured."""
    path = _path(digest)
    if path.exists():
        try:
            return decode(QualityReport, read_bytes(path), str(path))
        except InvalidRequest as error:
            logger.warning("this quality report is ignored: %s", error)
    return next((known for known in shipped_quality_reports() if known.digest == digest), None)


def keep_quality_report(report: QualityReport) -> Path:
    """Store a report in the cache; returns its file."""
    path = _path(report.digest)
    write_bytes(path, encode(report, pretty=True), make_folder=True)
    return path


def shipped_quality_reports() -> tuple[QualityReport, ...]:
    raw = resources.files("headway.checkpoint").joinpath(_SHIPPED).read_bytes()
    return decode(tuple[QualityReport, ...], raw, _SHIPPED)


def _path(digest: str) -> Path:
    return cache_home() / "quality" / f"{digest}.json"
