"""What the load generator sends its jobs to: something with one method.

A server behind a URL and an engine in this process are both targets, and so is anything that a
comparison wants to put beside them. A target tells when tokens came; what that means as latencies
is worked out elsewhere, once for all.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from headway.measurement.record import Outcome
from headway.workload.job import Job

STOP_TOKEN = 5
"""Ends a request by itself, forced to come; any token that models have would do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What came back for one job."""

    times: Sequence[float] = ()
    """When each piece with tokens came, in seconds of `time.perf_counter`."""
    counts: Sequence[int] = ()
    """Tokens in each piece, as far as one can tell; as long as `times`."""
    outcome: Outcome = "ok"
    error: str = ""
    """Why, where the outcome is not "ok"."""
    cached_tokens: int = 0
    """Prompt tokens from the target's prefix cache, where it says so."""
    output_tokens: int | None = None
    """All tokens as the target itself counted them; None where `counts` is the best there is."""
    prompt_tokens: int | None = None
    """Likewise of the prompt; None where the job's own length stands."""


class Target(Protocol):
    """Answers jobs, many at a time."""

    async def ask(self, job: Job, tokens: Sequence[int], *, id: str) -> Answer:  # noqa: A002
        """Have the job done with `tokens` as its prompt, exactly as long as the job says.

        Returns when nothing more will come. Whatever goes wrong on the target's side is an answer
        with another outcome than "ok", never an exception.
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Ending:
    """How sampling must be set so that an answer has exactly its job's length.

    A job whose cap is its length ends at `max_tokens`. One that may be longer ends by itself: from
    token `output` on the stop token is allowed, and its bias then makes it the likeliest. So the
    server cannot know the length before, as with real requests.
    """

    max_tokens: int
    min_tokens: int = 0
    stop: int | None = None
    bias: float = 100.0

    @classmethod
    def of(cls, job: Job) -> Ending:
        if job.cap <= job.output:
            return cls(max_tokens=job.output)
        return cls(max_tokens=job.cap, min_tokens=job.output - 1, stop=STOP_TOKEN)
