"""Accounts: by how many steps each stream is ahead of where it would be without drafts.

They are kept in steps without drafts: a draft that was right is a step saved, and a step that took
a tenth longer cost a tenth of one.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from headway.scheduling.speculation.acceptance import Kind, OwnChances
from headway.scheduling.speculation.choice import SLOWER

LOAN = 0.5
"""Steps by which a stream that never had a draft may be delayed for those that have, in all."""
MOST_LEAD = 4.0
"""A lead beyond which nothing counts: what was gained long ago is no reason to be slow."""
MOST_LOSS = 4.0
"""Steps by which a stream may fall behind by its own drafts; then it has none until `SLOWER` of
every step has made up for it."""


@dataclass(slots=True)
class StreamAccount:
    """Where one sequence stands."""

    lead: float = LOAN
    reckoned: int = 0
    """The step up to which `lead` is."""
    own: OwnChances = field(default_factory=dict)
    kind: Kind = ("", "")
    """Of its drafts in the step under way."""
    drafts: int = 0
    """In that step."""
    gained: int = 0
    """Those of them that were right."""
    fruitless: int = 0
    """How often it was asked about since it last had drafts."""

    def catch_up(self, step: int) -> None:
        """Who is behind makes up for it by what every step may be slower for it."""
        if self.lead < LOAN:
            self.lead = min(LOAN, self.lead + SLOWER * (step - self.reckoned))
        self.reckoned = step

    def settle(self, longer: float) -> None:
        """A step was longer by that share of it, and gave what was right of the drafts."""
        self.lead = min(self.lead + self.gained - longer, MOST_LEAD)

    @property
    def may_draft(self) -> bool:
        """Whether its own drafts have not put it too far behind."""
        return self.lead > -MOST_LOSS
