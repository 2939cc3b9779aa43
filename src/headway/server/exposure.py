"""Who can reach the server, and by which name.

A server that only this machine reaches needs no key, but for one thing: a page of elsewhere that is
open in a browser here. Its host's name can be made to stand for this machine once the page is
loaded (DNS rebinding), and then the page may read what it likes, as if it came from this server.
What such a browser sends tells that name, which no server on a loopback address has.
"""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Mapping
from typing import Any

from headway.config import ServerConfig
from headway.errors import InvalidRequest
from headway.logs import line
from headway.server.logs import log

ANY_HOST = "*"
_LOOPBACK_NAMES = frozenset(("localhost", "127.0.0.1", "::1"))


def warn_of_exposure(config: ServerConfig, listener: socket.socket) -> None:
    """Say so where others than this machine can connect and no key is asked for."""
    if config.uds or config.api_key:
        return
    if not is_loopback(str(listener.getsockname()[0])):
        advice = "anyone who reaches this address may use the model: give --api-key"
        host = str(listener.getsockname()[0]).partition("%")[0]
        log.warning(line("no_api_key", host=host, advice=advice))


def hosts_answered(config: ServerConfig) -> frozenset[str] | None:
    """The names, without ports, that requests may call this server; None for any.

    They are those of the settings, or the loopback's where nothing but that keeps others out.
    """
    if config.allowed_hosts:
        names = frozenset(map(str.lower, config.allowed_hosts))
        return None if ANY_HOST in names else names
    if config.uds or config.api_key or not is_loopback(config.host):
        return None
    return _LOOPBACK_NAMES | {config.host.lower()}


def host_name(value: str) -> str:
    """The name in a Host header: `localhost` of `Localhost:8000`, `::1` of `[::1]:8000`."""
    if value.startswith("["):
        return value[1:].partition("]")[0].lower()
    return value.partition(":")[0].lower().removesuffix(".")


def check_from_here(scope: Mapping[str, Any], what: str) -> None:
    """Raise `InvalidRequest` unless a client of this machine asks: `what` is for no other.

    For servers without keys. A Unix socket's clients have no addresses, and are of this machine.
    """
    client: tuple[str, int] | None = scope.get("client")
    if client is not None and not is_loopback(client[0]):
        raise InvalidRequest(f"{what} from this machine alone where the server has no --api-key")


def is_loopback(host: str) -> bool:
    """Whether an address, as sockets give it, or a name is this machine's own."""
    if host.lower() == "localhost":
        return True
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:  # a name, which may stand for any address
        return False
    return bool((getattr(address, "ipv4_mapped", None) or address).is_loopback)
