"""Several engines of one model behind one server."""

from __future__ import annotations

from typing import Literal

RouterName = Literal["round-robin", "least-requests", "prefix", "predicted"]
"""Which of several engines gets a request; `headway.routing` has a router for each."""
