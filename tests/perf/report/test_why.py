"""The sentence under a chart: it names what was waited for, and only what the bars show."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headway.perf.records.record import RequestRecord
from headway.perf.report.run import Bar, Run
from headway.perf.report.why import idle_wait, queue_wait, why
from tests.perf.report.fabricated import played


def _run(policy: str, slots: int | None, bars: list[Bar], sent: dict[str, float]) -> Run:
    records = tuple(
        RequestRecord(id=name, due=at, sent=at, prompt_tokens=1, output_tokens=1)
        for name, at in sent.items()
    )
    settings = {"policy": policy}
    return Run(
        system=policy, group="g", settings=settings, slots=slots, bars=tuple(bars), records=records
    )


# Slot 3 is done at 4.1 s, slot 1 at 7 s; only then the next two come in.
BATCHES = [
    Bar(0, 0.0, 1.0, 7.0, "request-1"),
    Bar(1, 0.0, 1.0, 6.0, "request-2"),
    Bar(2, 0.0, 1.0, 4.1, "request-3"),
    Bar(0, 7.0, 8.0, 9.0, "request-4"),
    Bar(1, 7.0, 8.0, 9.0, "request-5"),
]
ALL_AT_ONCE = {f"request-{number}": 0.0 for number in range(1, 6)}


def test_a_slot_waits_for_the_longest_answer_of_its_batch() -> None:
    assert why(_run("static", 3, BATCHES, ALL_AT_ONCE)) == (
        "Slot 3 waited 2.90 s for slot 1: its batch was not over before the longest answer, while "
        "2 requests queued."
    )


def test_a_policy_that_lets_requests_into_a_batch_is_not_said_to_wait_for_its_end() -> None:
    text = why(_run("continuous", 3, BATCHES, ALL_AT_ONCE))
    assert text.startswith("Slot 3 waited 2.90 s for slot 1: no request was let in before")


def test_an_idle_slot_that_nobody_wants_waits_for_nobody() -> None:
    late = ALL_AT_ONCE | {"request-4": 6.95, "request-5": 6.95}
    run = _run("static", 3, BATCHES, late)
    idle = idle_wait(run)
    assert idle is not None
    assert (idle.slot, idle.gate) == (2, 0)
    assert idle.seconds == pytest.approx(0.05)
    assert idle.waiting == 2
    assert why(run) == "No request waited longer than 50.0 ms for a slot."


def test_it_is_the_longest_wait_that_is_named() -> None:
    later = [
        *BATCHES,
        Bar(2, 7.0, 8.0, 8.0, "request-6"),
        Bar(1, 20.0, 21.0, 22.0, "request-7"),
    ]
    held = [bar._replace(end=20.0) if bar.request == "request-4" else bar for bar in later]
    found = idle_wait(_run("static", 3, held, ALL_AT_ONCE | {"request-6": 0.0, "request-7": 0.0}))
    assert found is not None
    assert (found.slot, found.gate, found.seconds, found.waiting) == (2, 0, 12.0, 1)


def test_in_a_full_batch_the_longest_queueing_is_named() -> None:
    bars = [
        Bar(0, 0.0, 1.0, 4.0, "1"),
        Bar(1, 0.0, 1.0, 6.0, "2"),
        Bar(0, 4.0, 5.0, 9.0, "3"),
        Bar(1, 6.0, 7.0, 9.0, "4"),
    ]
    text = why(_run("continuous", 2, bars, {"1": 0.0, "2": 0.0, "3": 0.0, "4": 0.5}))
    assert text == "Request 4 waited 5.50 s: all 2 slots were taken until slot 2 was free."


def test_one_slot_takes_one_at_a_time() -> None:
    bars = [Bar(0, 0.0, 1.0, 4.0, "1"), Bar(0, 4.0, 5.0, 9.0, "2")]
    text = why(_run("sequential", 1, bars, {"1": 0.0, "2": 0.0}))
    assert text == "Request 2 waited 4.00 s for the one slot: those before it go one at a time."


def test_waiting_beside_free_slots_is_not_blamed_on_full_ones() -> None:
    bars = [Bar(0, 0.0, 1.0, 4.0, "1"), Bar(0, 4.0, 5.0, 9.0, "2")]
    text = why(_run("continuous", 4, bars, {"1": 0.0, "2": 0.0}))
    assert text.startswith("Request 2 waited 4.00 s though only 1.0 of 4 slots were taken")


def test_preemptions_are_counted_and_the_longest_named() -> None:
    bars = [
        Bar(0, 0.0, 1.0, 9.0, "1"),
        Bar(1, 0.0, 1.0, 3.0, "2"),
        Bar(1, 3.5, 4.0, 5.0, "2"),
        Bar(1, 7.0, 8.0, 9.0, "2"),
    ]
    text = why(_run("continuous", 2, bars, {"1": 0.0, "2": 0.0}))
    assert text == (
        "2 preemptions for want of KV memory: request 2 lost its slot at 5.00 s and waited 2.00 s "
        "for another."
    )


def test_what_clients_saw_has_no_slots_to_explain() -> None:
    assert why(_run("external", None, BATCHES, ALL_AT_ONCE)) == ""
    assert why(_run("static", 3, [], ALL_AT_ONCE)) == ""


def test_bars_without_records_say_nothing_of_a_queue() -> None:
    run = _run("static", 3, BATCHES, {})
    assert (idle_wait(run), queue_wait(run), why(run)) == (None, None, "")


def _longest_by_steps(bars: tuple[Bar, ...], sent: dict[str, float]) -> float:
    """The slow way: for every bar's end, look at all others."""
    first = {bar.request: bar.begin for bar in sorted(bars, key=lambda bar: -bar.begin)}
    longest = 0.0
    for bar in bars:
        later = [other.begin for other in bars if other.begin >= bar.end - 1e-5]
        if not later:
            continue
        boarding = min(later)
        over = [other for other in bars if other.end <= boarding + 1e-5]
        gate = max(over, key=lambda other: (other.end, other.slot))
        queue = [sent[name] for name, begin in first.items() if begin >= boarding - 1e-5]
        if queue and gate.slot != bar.slot:
            longest = max(longest, gate.end - max(bar.end, min(queue)))
    return longest


@given(
    st.sampled_from(["padded", "continuous", "static"]),
    st.integers(1, 4),
    st.lists(st.tuples(st.integers(1, 12), st.floats(0.0, 0.5)), min_size=1, max_size=14),
)
def test_the_longest_wait_is_that_of_the_slow_way(
    kind: str, slots: int, requests: list[tuple[int, float]]
) -> None:
    arrivals = [sum(gap for _, gap in requests[: place + 1]) for place in range(len(requests))]
    bars, _ = played(kind, slots, [length for length, _ in requests], arrivals, 1.0)
    sent = {str(place): at for place, at in enumerate(arrivals)}
    found = idle_wait(_run(kind, slots, list(bars), sent))
    assert (found.seconds if found else 0.0) == pytest.approx(_longest_by_steps(bars, sent))
    if slots == 1:
        assert found is None
