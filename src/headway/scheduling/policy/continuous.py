"""Continuous batching: every step is a departure, and a seat that frees is taken at the next one.

Iteration-level scheduling comes from Orca (Yu et al., OSDI 2022), prefill in chunks beside decodes
from Sarathi-Serve (Agrawal et al., OSDI 2024).
"""

from __future__ import annotations

from headway.scheduling.policy.base import Decision, View, fill


class Continuous:
    """Decodes first, then prefills in queue order as far as the token budget goes."""

    timeless = True

    def decide(self, view: View) -> Decision:
        return Decision(shares=fill(view, view.waiting))
