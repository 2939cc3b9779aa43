"""Who asks: the tenant that an API key stands for, and what priority it may give its requests.

A tenant is known by its key's place among the server's, so that the key itself goes no further.
Without keys there is one tenant. The engine shares its slots fairly between tenants, and between
the requests of one.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from headway.config import ServerConfig
from headway.errors import InvalidRequest

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
    allowed = {tenant_name(config.api_key.index(key)) for key in config.priority_api_key}
    if allowed and tenant_of(scope) not in allowed:
        raise InvalidRequest("priority is not taken from this API key", field="priority")
    return given
