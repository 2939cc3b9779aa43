"""Results of requests: records, percentiles, attainment. Knows no client, engine or clock."""

from headway.perf.records.attainment import (
    ObjectiveResult,
    meets,
    objectives_met,
    percentile,
)
from headway.perf.records.record import Outcome, RequestRecord, read_records, write_records
from headway.perf.records.summary import summarize

__all__ = [
    "ObjectiveResult",
    "Outcome",
    "RequestRecord",
    "meets",
    "objectives_met",
    "percentile",
    "read_records",
    "summarize",
    "write_records",
]
