"""Static batching: all that wait start together, and the batch runs until its slowest ends.

The oldest way to batch. A slot whose sequence has ended stays empty until then; these idle slots
are what continuous batching removes, so they are counted.
"""

from __future__ import annotations

from headway.scheduling.policy.base import Decision, Policy, View, continue_batch, launch_batch


class Static(Policy):
    """Starts a batch as soon as nobody runs, with as many as there are slots."""

    def decide(self, view: View) -> Decision:
        return continue_batch(view) if view.running else launch_batch(view)
