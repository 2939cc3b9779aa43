"""What is installed beyond Headway's own needs, and what to say where it is not.

PyTorch is an extra: the reference backend computes with it, on CPUs and on GPUs, and nothing else
needs it. So are Redis' client, for a response cache that several servers share, and rich, for what
is drawn on a terminal. Nothing is imported to find out, so that every process may ask.
"""

from __future__ import annotations

from importlib.util import find_spec

from headway.errors import InvalidRequest

INSTALL_TORCH = "pip install 'headway[torch]'"
INSTALL_REDIS = "pip install 'headway[redis]'"
_PACKAGES = ("torch", "safetensors")


def has_torch() -> bool:
    """Whether all packages of the extra `torch` are there."""
    return all(find_spec(name) is not None for name in _PACKAGES)


def needs_torch(what: str, *, field: str) -> InvalidRequest:
    """The error to raise where `what`, which the setting `field` asks for, cannot be done."""
    return InvalidRequest(
        f"{what} needs PyTorch, which is not installed: {INSTALL_TORCH}", field=field
    )


def has_rich() -> bool:
    """Whether the extra `terminal` is there."""
    return find_spec("rich") is not None


def has_redis() -> bool:
    """Whether the extra `redis` is there."""
    return find_spec("redis") is not None


def needs_redis(what: str, *, field: str) -> InvalidRequest:
    """The error to raise where `what`, which the setting `field` asks for, cannot be done."""
    return InvalidRequest(
        f"{what} needs the client of Redis, which is not installed: {INSTALL_REDIS}", field=field
    )
