"""The engine process, but for the rule: every draft of its draft model is computed, paying or not.

Tests of what becomes of drafts are not to depend on how fast the machine is.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from unittest.mock import patch

from headway.engine.__main__ import build
from headway.engine.draft_model import DraftModel
from headway.engine.process import serve
from headway.scheduling.drafts import Proposer
from headway.scheduling.speculation.speculation import AllDrafts, Speculation
from headway.steptime.online import StepTimes
from headway.types.speculation import SpeculativeConfig

MOST = 4
COMMAND = (sys.executable, "-m", "tests.engine.every_draft")


def every_draft(
    config: SpeculativeConfig | None,
    proposers: Sequence[Proposer],
    step_times: StepTimes | None,
) -> Speculation | None:
    """In place of `headway.scheduling.build.speculation_of`: no drafts but the draft model's."""
    found = [each for each in proposers if isinstance(each, DraftModel)]
    return Speculation(found, AllDrafts(), most=MOST) if found else None


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--fd", type=int, required=True)
    with patch("headway.engine.build.speculation_of", every_draft):
        return serve(parser.parse_args().fd, build)


if __name__ == "__main__":
    raise SystemExit(main())
