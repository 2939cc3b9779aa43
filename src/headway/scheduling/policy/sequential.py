"""One request at a time, in queue order: the baseline that every batch is measured against."""

from __future__ import annotations

from itertools import islice

from headway.scheduling.policy.base import Decision, View, fill


class Sequential:
    """The next sequence boards when the one before it has ended."""

    timeless = True

    def decide(self, view: View) -> Decision:
        return Decision(shares=fill(view, islice(view.waiting, 0 if view.running else 1)))
