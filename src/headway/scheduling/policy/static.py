"""Static batching: whoever waits departs together, and the batch runs until its slowest ends.

The oldest way to batch. A slot whose sequence has ended stays empty until then; these idle slots
are what continuous batching removes, so they are counted.
"""

from __future__ import annotations

from headway.scheduling.policy.base import Decision, View, board_whole_batch, run_on


class Static:
    """Departs as soon as nobody runs, with as many as there are seats."""

    timeless = True

    def decide(self, view: View) -> Decision:
        return run_on(view) if view.running else board_whole_batch(view)
