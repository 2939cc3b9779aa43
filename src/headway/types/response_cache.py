"""Settings of the response cache, and how it answered a request."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from headway.errors import InvalidRequest
from headway.settings import check_settings, setting

CacheOutcome = Literal["hit", "joined", "miss"]
"""From memory; from the computation of an equal request that was under way; or computed."""

REDIS_SCHEMES = ("redis://", "rediss://", "unix://")
_MONTH = 30 * 24 * 3600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ResponseCacheConfig:
    """Whether answers are kept for equal requests, how many, how long and for whom."""

    response_cache: int = setting(
        0,
        "bytes for answers that equal requests get again, if greedy or seeded (64MiB); 0: none",
        least=0,
        most=2**50,
    )
    response_cache_max_age: float = setting(
        3600.0, "seconds after which an answer is computed anew", least=1, most=_MONTH
    )
    response_cache_shared: bool = setting(
        False, "let all API keys share these answers; by default each key has its own"
    )
    response_cache_redis: str | None = setting(
        None, "Redis through which several servers share them (redis://host:6379/0)"
    )

    def __post_init__(self) -> None:
        check_settings(self)
        self.check_response_cache()

    def check_response_cache(self) -> None:
        """Raise `InvalidRequest` for settings of a cache that there is not, or an odd address."""
        url = self.response_cache_redis
        for name in ("response_cache_shared", "response_cache_redis"):
            if getattr(self, name) and not self.response_cache:
                raise InvalidRequest(
                    f"{name} would have no effect without response_cache, such as 64MiB",
                    field=name,
                )
        if url is not None and not url.startswith(REDIS_SCHEMES):
            raise InvalidRequest(
                f"response_cache_redis must begin with one of {', '.join(REDIS_SCHEMES)}",
                field="response_cache_redis",
            )
