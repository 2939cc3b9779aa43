"""A request as the engine sees it, in token ids, and what comes back for it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple, get_args

import msgspec

from headway.types.objectives import Objective
from headway.types.sampling import ResolvedSampling
from headway.types.step import TokenLogprobs

FinishReason = Literal["stop", "length", "abort", "error"]
ServiceClass = Literal["interactive", "standard", "batch"]
"""Under overload the later ones are late first; a batch request has no objectives of its own."""
SERVICE_CLASSES: tuple[ServiceClass, ...] = get_args(ServiceClass)


class Owner(NamedTuple):
    """Whom a request is served for; the slots of a batch are shared fairly between them."""

    tenant: str = ""
    """Such as an API key."""
    caller: str = ""
    """Within a tenant: who queues as one, such as all continuations of an HTTP request."""


NOBODY = Owner()
"""One owner for all requests that name none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What was asked: one prompt, one continuation. Never changes.

    A request for n continuations is n of these with one `group`. `generated` holds tokens that an
    earlier engine process had already produced: the continuation resumes after them, and they
    count towards `max_tokens` as if this engine had made them.
    """

    id: str
    prompt: tuple[int, ...]
    sampling: ResolvedSampling
    arrival: float
    """Seconds on the machine's monotonic clock."""
    priority: int = 0
    """Smaller runs earlier; equal priorities go by arrival."""
    group: str = ""
    """Requests of one group (n > 1) may share KV blocks even where prefix caching is off."""
    cache_salt: str = ""
    """Only requests with the same salt share cached prefixes."""
    generated: tuple[int, ...] = ()
    prediction: tuple[int, ...] = ()
    """What its caller expects of the answer, or of a part of it: a source of drafts alone."""
    tenant: str = ""
    caller: str = ""
    """See `Owner`, for both."""
    objectives: tuple[Objective, ...] = ()
    """How soon and how steadily its tokens are wanted; a policy may keep to them."""
    service_class: ServiceClass = "standard"
    kv_source: str = ""
    """Where another engine of this machine has keys and values of its tokens: the path of a file.
    They are loaded from there as far as that is possible."""


class TokenEvent(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """News of one request: new tokens since its last event, or its end, or both.

    `cached_tokens` counts prompt tokens whose keys and values came from the prefix cache when the
    request was first admitted, and `scheduled_at` (clock seconds) says when that was; both are set
    on the first event. `preemptions` counts those since the last event, `draft_tokens` the drafts
    that were computed since then, and `accepted_tokens` those of them that are among `tokens`.
    `stop_reason` is the stop token id where one ended the request early; that token is the last of
    `tokens`. `error` says why
    where `finish` is "error"; with `retry_after`, in seconds, it was shed: refused for overload
    before it ran, and there may be room again after that time. `cached` says that nothing was
    computed for this: it comes from a response cache, or from the computation of an equal request.
    """

    id: str
    tokens: tuple[int, ...] = ()
    logprobs: tuple[TokenLogprobs, ...] = ()
    prompt_logprobs: tuple[TokenLogprobs, ...] = ()
    finish: FinishReason | None = None
    stop_reason: int | None = None
    error: str | None = None
    cached_tokens: int = 0
    scheduled_at: float | None = None
    preemptions: int = 0
    draft_tokens: int = 0
    accepted_tokens: int = 0
    retry_after: float | None = None
    cached: bool = False
