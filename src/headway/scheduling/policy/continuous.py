"""Continuous batching: sequences are admitted at every step, as soon as a slot is free.

Iteration-level scheduling comes from Orca (Yu et al., OSDI 2022), prefill in chunks beside decodes
from Sarathi-Serve (Agrawal et al., OSDI 2024).
"""

from __future__ import annotations

from headway.scheduling.policy.base import Decision, Policy, View, fill


class Continuous(Policy):
    """Decodes first, then prefills in queue order as far as the token budget goes.

    Where the first that waits cannot be admitted and another caller holds more than its share, that
    one gives a sequence back. The other policies do not: their batches keep who is in them.
    """

    def decide(self, view: View) -> Decision:
        if view.waiting:
            last = view.whose_turn_ends()
            if last is not None and next(iter(view.candidates), None) is None:
                return Decision(give_way=[last.id])
        return Decision(tokens=fill(view, view.candidates))
