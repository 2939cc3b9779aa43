"""What is asked, and when: plain data that the load generator sends and the simulator replays.

A prompt is not stored token by token. It is a chain of segments, each a seed and a length, and
equal segments are equal tokens: that is all that batching and prefix caching can see of a text, and
a trace of a hundred thousand long prompts stays small.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

LONGEST = 1 << 20
"""Most tokens of a prompt or an answer: far beyond any model, and a bound on mistakes."""
MOST_REQUESTS = 5_000_000
"""Most jobs of a workload."""


class Segment(NamedTuple):
    """So many tokens of a prompt; the same seed and length always stand for the same tokens."""

    seed: int
    length: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One request to be made."""

    segments: tuple[Segment, ...]
    """The prompt, at least one token."""
    output: int
    """Tokens that it will generate, at least 1."""
    cap: int
    """Most tokens that its caller allows (`max_tokens`), at least `output`.

    Where it is more, the request ends by itself: the server learns only then how long it was.
    """
    at: float = 0.0
    """When it is to be sent: seconds after the workload's start."""

    @property
    def prompt_tokens(self) -> int:
        return sum(segment.length for segment in self.segments)


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """Jobs in the order of their times, and what to call them."""

    name: str
    """In a few words, such as "128 at once, output exponential(96)"."""
    jobs: tuple[Job, ...]

    @property
    def prompt_tokens(self) -> int:
        return sum(job.prompt_tokens for job in self.jobs)

    @property
    def output_tokens(self) -> int:
        return sum(job.output for job in self.jobs)
