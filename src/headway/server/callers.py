"""Who asks: the tenant that an API key stands for, and how urgent its requests may be.

A tenant is known by its key's place among the server's, so that the key itself goes no further.
Without keys there is one tenant. The engine shares its slots fairly between tenants, and between
the callers of one: the users that requests name, and every request that names none.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from hashlib import blake2b
from typing import Any

from headway.config import ServerConfig
from headway.errors import InvalidRequest
from headway.types import Owner

TENANT = "headway.tenant"
"""Key in the ASGI scope: the tenant of a request that bore a key."""
MOST_PRIORITY = 10
"""Priorities are from minus this to this; smaller runs earlier."""

_NAME = "key-"


def tenant_name(place: int) -> str:
    """The tenant of the key at this place among `ServerConfig.api_key`."""
    return f"{_NAME}{place}"


def tenant_of(scope: Mapping[str, Any]) -> str:
    """Whom a request is served for; empty where no key was asked for."""
    tenant: str = scope.get(TENANT, "")
    return tenant


def owner_of(scope: Mapping[str, Any], request_id: str, user: str | None) -> Owner:
    """For whom the request is served. A user is a caller of the tenant, whatever they name.

    Of a user's name only a digest goes further: recordings keep callers.
    """
    if not user:
        return Owner(tenant_of(scope), request_id)
    digest = blake2b(user.encode(), digest_size=12).hexdigest()
    return Owner(tenant_of(scope), f"user-{digest}")


def may_hurry(scope: Mapping[str, Any], config: ServerConfig) -> bool:
    """Whether a request may be interactive, or ask for more than its class does."""
    return _is_one_of(config.interactive_api_key, scope, config)


def priority_of(scope: Mapping[str, Any], config: ServerConfig, given: int | None) -> int:
    """The priority of a request; raises `InvalidRequest` where it may not have that."""
    if not given:
        return 0
    if config.scheduling_policy != "priority":
        raise InvalidRequest(
            "priority is not taken here: the server was not started with "
            "--scheduling-policy priority",
            field="priority",
        )
    if abs(given) > MOST_PRIORITY:
        raise InvalidRequest(
            f"priority must be from -{MOST_PRIORITY} to {MOST_PRIORITY}, got {given}",
            field="priority",
        )
    if not _is_one_of(config.priority_api_key, scope, config):
        raise InvalidRequest("priority is not taken from this API key", field="priority")
    return given


def _is_one_of(keys: Iterable[str], scope: Mapping[str, Any], config: ServerConfig) -> bool:
    """Whether the request bore one of these keys of the server's; true where there are none."""
    allowed = {tenant_name(config.api_key.index(key)) for key in keys}
    return not allowed or tenant_of(scope) in allowed
