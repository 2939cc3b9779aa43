"""What came of requests: records, percentiles, attainment. Knows no client, engine or clock."""

from headway.measurement.attainment import Met, meets, objectives_met
from headway.measurement.files import read_records, write_records
from headway.measurement.percentiles import percentile, weighted_percentile
from headway.measurement.record import Outcome, RequestRecord
from headway.measurement.summary import summarize

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
