"""What is sent: lengths, arrivals, shared prefixes and traces, as requests with a time each."""

from headway.perf.workload.lengths import LengthDistribution, parse_lengths
from headway.perf.workload.synthetic import rearrive, synthesize
from headway.perf.workload.traces import read_trace
from headway.perf.workload.workload import (
    Segment,
    Workload,
    WorkloadRequest,
    distinct_tokens,
    vocabulary_tokens,
    write_workload,
)

__all__ = [
    "LengthDistribution",
    "Segment",
    "Workload",
    "WorkloadRequest",
    "distinct_tokens",
    "parse_lengths",
    "read_trace",
    "rearrive",
    "synthesize",
    "vocabulary_tokens",
    "write_workload",
]
