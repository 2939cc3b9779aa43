"""Errors that a user may see, each with the field to mend where there is one.

Everything a caller did wrong or the machine cannot do is a `HeadwayError`; anything else that
escapes is a bug. The server maps these classes to HTTP statuses, the command line to one line
on standard error. This module knows neither.
"""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


class HeadwayError(Exception):
    """Base of all errors that Headway raises on purpose.

    `field` names the request field, flag or file key at fault, spelt as the user wrote it.
    """

    def __init__(self, message: str, *, field: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.field = field


class InvalidRequest(HeadwayError):
    """A request, flag or setting that cannot be served as asked; the message says the fix."""


class RequestTooLarge(InvalidRequest):
    """A request that exceeds a size limit, or that could never fit in the KV cache."""


class ModelNotFound(HeadwayError):
    """The named model is neither served, nor a file, nor a known or reachable name."""


class ModelError(HeadwayError):
    """A model file that is corrupt, truncated or of a kind that Headway cannot run."""


class Overloaded(HeadwayError):
    """The queue is full; the caller may try again after `retry_after` seconds."""

    def __init__(self, message: str, *, retry_after: float) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class Unavailable(HeadwayError):
    """The engine is starting, draining or gone."""


class EngineError(HeadwayError):
    """A request that the engine could not finish through a fault of its own."""


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """The end of a message about an unknown word: the known one that is most like it, if any."""
    close = get_close_matches(word[:100], list(known), n=1, cutoff=0.6)
    return f"; did you mean {close[0]}?" if close else ""
