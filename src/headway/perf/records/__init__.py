"""What came of requests: records, percentiles, attainment. Knows no client, engine or clock."""

from headway.perf.records.attainment import (
    Met,
    meets,
    objectives_met,
    percentile,
    weighted_percentile,
)
from headway.perf.records.record import Outcome, RequestRecord, read_records, write_records
from headway.perf.records.summary import summarize

__all__ = [
    "Met",
    "Outcome",
    "RequestRecord",
    "meets",
    "objectives_met",
    "percentile",
    "read_records",
    "summarize",
    "weighted_percentile",
    "write_records",
]
