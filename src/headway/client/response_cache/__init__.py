"""The response cache: equal requests whose answers must be equal are computed once.

It lies between whoever submits requests and the engine, in token ids, so that every dialect and the
Python API have it. `caching_engine` puts one over an engine.
"""

from __future__ import annotations

from headway.client.handle import EngineHandle
from headway.client.response_cache.engine import CachingEngine
from headway.client.response_cache.keys import CacheKeys
from headway.client.response_cache.remote import RedisLink, RemoteAnswers
from headway.client.response_cache.store import AnswerStore
from headway.types.response_cache import ResponseCacheConfig

__all__ = ["CachingEngine", "caching_engine", "remote_answers"]


def caching_engine(
    engine: EngineHandle,
    config: ResponseCacheConfig,
    fingerprint: bytes,
    remote: RemoteAnswers | None = None,
) -> CachingEngine:
    """An engine that computes no answer twice, as far as these settings let it.

    `fingerprint` tells its model from all others; see `headway.client.response_cache.keys`. Answers
    are told to no other server before `CachingEngine.trust` is called.
    """
    if remote is not None:
        remote.start()
    return CachingEngine(
        engine,
        keys=CacheKeys(fingerprint, shared=config.response_cache_shared),
        store=AnswerStore(config.response_cache, max_age=config.response_cache_max_age),
        remote=remote,
    )


def remote_answers(config: ResponseCacheConfig | None) -> RemoteAnswers | None:
    """What other servers have answered, if the settings name a Redis; nothing is sent to it yet.

    Raises `InvalidRequest` where its client is not installed, or the address is none.
    """
    if config is None or config.response_cache_redis is None:
        return None
    return RemoteAnswers(
        RedisLink(config.response_cache_redis, max_age=config.response_cache_max_age)
    )
