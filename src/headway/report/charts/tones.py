"""Which colour a system has: the same one everywhere on a page.

The page knows the colours themselves, light and dark; here they are numbers. Tone 0 is kept for
the system that the report is about, greys and browns for those from outside, so that even in a
small drawing the eye finds the two ends of a comparison. Lines differ in their dashes too.
"""

from __future__ import annotations

from collections.abc import Mapping

from headway.report.run import Report, Run

OWN = (1, 2, 3, 4, 5)
OUTSIDE = (6, 7, 8)
LEADER = 0


def tones(report: Report, leader: str | None) -> Mapping[str, int]:
    """A tone for each system, in the report's order; repeated where there are too many."""
    found: dict[str, int] = {}
    used = {OWN: 0, OUTSIDE: 0}
    for run in report.runs:
        if run.system in found:
            continue
        if run.system == leader:
            found[run.system] = LEADER
            continue
        family = _family(run)
        found[run.system] = family[used[family] % len(family)]
        used[family] += 1
    return found


def _family(run: Run) -> tuple[int, ...]:
    return OUTSIDE if run.kind == "outside" else OWN
