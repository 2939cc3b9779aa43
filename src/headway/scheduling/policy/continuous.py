"""Continuous batching: sequences are admitted at every step, as soon as a slot is free.

Iteration-level scheduling comes from Orca (Yu et al., OSDI 2022), prefill in chunks beside decodes
from Sarathi-Serve (Agrawal et al., OSDI 2024).
"""

from __future__ import annotations

from headway.scheduling.policy.base import Decision, Policy, View, fill


class Continuous(Policy):
    """Decodes first, then prefills in queue order as far as the token budget goes."""

    def decide(self, view: View) -> Decision:
        return Decision(tokens=fill(view, view.candidates))
