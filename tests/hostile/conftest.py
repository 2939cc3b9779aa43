"""The server over the fake model, as the server's own tests have it."""

from __future__ import annotations

from tests.server.conftest import server, shared

__all__ = ["server", "shared"]
