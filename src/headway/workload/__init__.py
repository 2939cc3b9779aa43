"""What is asked: lengths, arrivals, shared prefixes and traces, as jobs with a time each."""

from headway.workload.files import write_workload
from headway.workload.job import Job, Segment, Workload
from headway.workload.laws import Law, parse_law
from headway.workload.synthetic import rearrive, synthesize
from headway.workload.tokens import distinct_tokens, vocabulary_tokens
from headway.workload.traces import read_trace

__all__ = [
    "Job",
    "Law",
    "Segment",
    "Workload",
    "distinct_tokens",
    "parse_law",
    "read_trace",
    "rearrive",
    "synthesize",
    "vocabulary_tokens",
    "write_workload",
]
