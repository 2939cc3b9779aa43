"""Who is asked for drafts, in which order, and what is kept of whom."""

from __future__ import annotations

from collections.abc import Sequence as Seq
from dataclasses import dataclass, field

import pytest

from headway.scheduling.admission import LengthEstimate
from headway.scheduling.build import build_scheduler, lookup_of, speculation_of
from headway.scheduling.drafts import Guess, Wanted
from headway.scheduling.speculation.paying import PayingDrafts
from headway.scheduling.speculation.prompt_lookup import PromptLookup
from headway.scheduling.speculation.speculation import AllDrafts, Speculation
from headway.types import Request, StepPlan
from headway.types.engine import SchedulerConfig
from headway.types.speculation import MOST_DRAFTS, SpeculativeConfig
from tests.scheduling.harness import limits_of, make_harness, request_of
from tests.scheduling.proposers import Fixed, OneByOne


@dataclass
class Noted(OneByOne):
    """Proposes something for some, and notes what it is asked."""

    drafts: dict[str, tuple[int, ...]]
    """By request."""
    never: frozenset[str] = frozenset()
    """Requests for which it may not propose anything."""
    asked: list[list[tuple[str, int]]] = field(default_factory=list)
    """For each call: requests, and how many drafts are wanted."""
    forgotten: list[str] = field(default_factory=list)

    def may_propose(self, request: Request) -> bool:
        return request.id not in self.never

    def propose(self, wanted: Seq[Wanted]) -> list[Guess]:
        assert all(each.most >= 1 for each in wanted)
        self.asked.append([(each.request.id, each.most) for each in wanted])
        return super().propose(wanted)

    def guess(self, request: Request, tokens: Seq[int], most: int) -> Seq[int]:
        return self.drafts.get(request.id, ())

    def forget(self, request_id: str) -> None:
        self.forgotten.append(request_id)


def outputs(plan: StepPlan) -> list[int]:
    return [part.outputs for part in plan.slices]


def test_all_of_a_step_are_asked_for_together_and_each_proposer_for_what_is_left() -> None:
    first = Noted({"a": (5,)}, never=frozenset("c"))
    second = Noted({"a": (6, 6), "b": (7, 7), "c": (8, 8, 8)})
    harness = make_harness(speculation=Speculation([first, second], AllDrafts()))
    for name in "abc":
        harness.add(request_of(name, prompt=(ord(name),), max_tokens=9))
    harness.step()
    harness.step()
    assert first.asked[0] == [("a", 8), ("b", 8)]
    assert second.asked[0] == [("b", 8), ("c", 8)]
    assert outputs(harness.runner.plans[0]) == [2, 3, 4]


def test_no_more_drafts_than_are_wanted() -> None:
    noted = Noted({"a": (5,) * 30})
    harness = make_harness(speculation=Speculation([noted], AllDrafts(), most=3))
    harness.add(request_of(max_tokens=9, prompt=(1, 2)))
    harness.step()
    harness.step()
    assert noted.asked == [[("a", 3)]]
    assert outputs(harness.runner.plans[1]) == [4]


def test_who_has_ended_or_was_aborted_is_forgotten() -> None:
    noted = Noted({})
    harness = make_harness(speculation=Speculation([noted], AllDrafts()))
    for name, most in (("a", 3), ("b", 9), ("c", 9)):
        harness.add(request_of(name, prompt=(ord(name), 2, 3), max_tokens=most))
    harness.step()
    harness.abort("c")
    assert noted.forgotten == ["c"]
    harness.drain()
    assert noted.forgotten == ["c", "a", "b"]


def test_who_was_preempted_is_forgotten_until_it_runs_again() -> None:
    noted = Noted({})
    harness = make_harness(
        speculation=Speculation([noted], AllDrafts()),
        blocks=4,
        lengths=LengthEstimate(first_guess=1),
    )
    for name in "ab":
        harness.add(request_of(name, prompt=(ord(name), 2, 3), max_tokens=9, stop=(999,)))
    harness.drain()
    assert harness.preemptions["b"] > 0
    assert noted.forgotten.count("b") == 1 + harness.preemptions["b"]
    assert noted.forgotten.count("a") == 1


def test_blocks_that_run_short_cut_the_last_drafts_and_take_no_ones_place() -> None:
    noted = Noted(dict.fromkeys("ab", (0,) * 8))
    harness = make_harness(speculation=Speculation([noted], AllDrafts()), blocks=4)
    for name in "ab":
        harness.add(request_of(name, prompt=(ord(name), 2, 3), max_tokens=6))
    harness.step()
    harness.step()
    # Each has a block of 4, of which 3 are filled; 4 decode tokens fit in, or 8 with one more.
    assert outputs(harness.runner.plans[1]) == [5, 5]
    harness.drain()
    assert harness.scheduler.stats().preemptions == 0


def test_those_who_had_drafts_lately_may_get_ahead_and_later_they_may_not() -> None:
    noted = Noted({"a": (0,)})
    harness = make_harness(speculation=Speculation([noted], AllDrafts()))
    harness.add(request_of(prompt=(1,), max_tokens=200))
    harness.step()
    harness.step()
    assert not harness.scheduler._estimate()._peaks
    noted.drafts.clear()
    for _ in range(40):
        harness.step()
    assert harness.scheduler._estimate()._peaks


@pytest.mark.parametrize(
    "config", [None, SpeculativeConfig(method="ngram", num_speculative_tokens=0)]
)
def test_speculation_can_be_off(config: SpeculativeConfig | None) -> None:
    assert speculation_of(config, [Fixed((1,))], None) is None
    assert speculation_of(SpeculativeConfig(), [], None) is None


def test_settings_bound_drafts_and_batches() -> None:
    config = SpeculativeConfig(
        method="ngram", num_speculative_tokens=2, disable_by_batch_size=1, prompt_lookup_max=6
    )
    speculation = speculation_of(config, [Fixed((0,) * 9)], None)
    assert speculation is not None
    assert isinstance(speculation.rule, PayingDrafts)
    speculation.rule = AllDrafts()
    scheduler = build_scheduler(
        SchedulerConfig(limits=limits_of(), num_blocks=64, block_size=4), speculation=speculation
    )
    harness = make_harness(speculation=speculation)
    assert scheduler._speculation is speculation
    harness.add(request_of("a", prompt=(1,), max_tokens=30))
    harness.step()
    assert outputs(harness.runner.plans[-1]) == [3]
    harness.add(request_of("b", prompt=(1, 2), max_tokens=30))
    harness.step()
    harness.step()
    assert outputs(harness.runner.plans[-1]) == [1, 1]
    assert speculation_of(SpeculativeConfig(), [Fixed(())], None)._most == MOST_DRAFTS  # type: ignore[union-attr]


def test_texts_are_looked_in_as_the_method_says() -> None:
    request = request_of()
    assert lookup_of(SpeculativeConfig(method="ngram")).may_propose(request)
    assert not lookup_of(SpeculativeConfig()).may_propose(request)
    lookup = lookup_of(SpeculativeConfig(method="ngram", prompt_lookup_max=7, prompt_lookup_min=3))
    assert isinstance(lookup, PromptLookup)
    assert (lookup._longest, lookup._least) == (7, 3)


def test_what_cannot_pay_is_counted() -> None:
    """Where a draft costs as much as a token."""
    harness = make_harness()
    times = harness.scheduler._cycle.step_times
    speculation = Speculation([Fixed((0,))], PayingDrafts(times))
    harness = make_harness(speculation=speculation)
    harness.add(request_of(prompt=(1, 2), max_tokens=5))
    harness.drain()
    stats = harness.scheduler.stats()
    assert (stats.drafts, stats.declined) == (0, 3), "of four decodes, the last can have none"
