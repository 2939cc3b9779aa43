"""One request at a time, in queue order: the baseline that every batch is measured against."""

from __future__ import annotations

from itertools import islice

from headway.scheduling.policy.base import Decision, Policy, View, fill


class Sequential(Policy):
    """The next sequence is admitted when the one before it has ended."""

    def decide(self, view: View) -> Decision:
        return Decision(tokens=fill(view, islice(view.candidates, 0 if view.running else 1)))
