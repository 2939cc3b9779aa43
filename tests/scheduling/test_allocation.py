"""Where a decision meets memory: what is cut, what that counts against, who is spared."""

from __future__ import annotations

from collections.abc import Mapping

from headway.scheduling.policy import Decision, Policy, View
from headway.scheduling.sequence import MAX_PREEMPTIONS
from tests.scheduling.fake_runner import reference
from tests.scheduling.harness import EngineHarness, limits_of, make_harness, request_of


class Scripted(Policy):
    """Decides on tokens by a script, step by step, then on all that anybody has to compute."""

    def __init__(self, *script: Mapping[int, int]) -> None:
        self._script = list(script)

    def decide(self, view: View) -> Decision:
        candidates = list(view.candidates)
        if self._script:
            return Decision(tokens=list(self._script.pop(0).items()))
        return Decision(tokens=[(seq.id, seq.todo) for seq in [*view.running, *candidates]])


def last_sizes(harness: EngineHarness) -> dict[int, int]:
    return {part.seq: len(part.tokens) for part in harness.runner.plans[-1].slices}


def short_of_memory(*, partial: int) -> EngineHarness:
    """Of 5 blocks the first sequence, thought to end at once, has taken 3; the third, whose prompt
    is computed in part, has one with room for a token; and the second would need 2 for its prompt.
    """
    admit, decode = {1: 4, 2: 0, 3: 3}, {1: 1}
    policy = Scripted(admit, *[decode] * 5, {1: 1, 2: 8, 3: 5})
    harness = make_harness(
        policy, blocks=5, prefix_caching=False, first_guess=1, limits=limits_of(partial=partial)
    )
    for name, length in (("grows", 4), ("whole", 8), ("begun", 8)):
        prompt = (len(name), *range(1, length))
        harness.add(request_of(name, prompt=prompt, max_tokens=9, stop=(-1,)))
    for _ in range(7):
        harness.step()
    return harness


def test_a_prompt_that_memory_cuts_counts_as_a_partial_prefill() -> None:
    harness = short_of_memory(partial=2)
    assert last_sizes(harness) == {1: 1, 2: 4, 3: 1}
    harness = short_of_memory(partial=1)
    assert last_sizes(harness) == {1: 1, 2: 4}


def test_prompts_that_are_begun_on_admission_count_as_partial_prefills() -> None:
    for partial, expected in ((2, {1: 3, 2: 5}), (1, {1: 3})):
        policy = Scripted({1: 3, 2: 5, 3: 0})
        harness = make_harness(policy, limits=limits_of(partial=partial))
        for name in "abc":
            harness.add(request_of(name, prompt=(ord(name),) * 8))
        harness.step()
        assert last_sizes(harness) == expected
        assert harness.scheduler.stats().running == 3


class Starving(Policy):
    """Preempts sequence 2 as often as it may, then lets it run but decode nothing, as long as the
    first in the queue gets its token."""

    def __init__(self) -> None:
        self._before = -1

    def decide(self, view: View) -> Decision:
        running = {seq.id: seq for seq in view.running}
        if 2 in running and running[2].preemptible and running[2].todo == 1:
            return Decision(preempt=[2])
        rest = [*view.running, *view.candidates]
        first = rest[0]
        paused, self._before = first.computed == self._before, first.computed
        served = rest if paused else [seq for seq in rest if seq is first or seq.todo > 1]
        return Decision(tokens=[(seq.id, seq.todo) for seq in served])


def test_one_that_was_preempted_three_times_is_spared_by_those_ahead_of_it() -> None:
    """Under the shipped policies everybody decodes, so those with a token to go leave in time.

    Here "spared" should leave before "first" needs its 2 blocks; "third" was admitted for that
    reason. But it stands still, and it is the last in the queue.
    """
    harness = make_harness(Starving(), blocks=10, prefix_caching=False)
    harness.add(request_of("first", prompt=(1,) * 4, max_tokens=28))
    harness.add(request_of("spared", prompt=(2,) * 4, max_tokens=5, priority=1))
    for _ in range(8):
        harness.step()
    harness.add(request_of("third", prompt=(3,) * 4, max_tokens=5))
    preempted: dict[str, int] = {}
    while harness.engine.has_work:
        harness.step()
        for seq in harness.scheduler._queues.live.values():
            preempted[seq.request.id] = seq.preemptions
    assert preempted == {"first": 0, "spared": MAX_PREEMPTIONS, "third": 1}
    for name, number, length in (("first", 1, 28), ("spared", 2, 5), ("third", 3, 5)):
        assert harness.tokens[name] == reference((number,) * 4, max_tokens=length)
