"""How many drafts: as many as pay, and nobody waits for others."""

from __future__ import annotations

import math
from collections.abc import Sequence as Seq

from hypothesis import given
from hypothesis import strategies as st

from headway.scheduling.speculation.choice import (
    MARGIN,
    SLOWER,
    DraftChoice,
    DraftStream,
    StepOutlook,
    choose,
    may_pay,
    outlook_of,
    probe,
)
from headway.scheduling.speculation.draft_seconds import DraftSeconds
from headway.steptime.shape import StepShape, decodes_after
from tests.scheduling.speculation.machines import KnownTimes, seconds_of

LINEAR = 1e-3


def linear(tokens: int) -> float:
    """Nothing is hidden: a draft costs as much as a decode."""
    return LINEAR * tokens


def looked_at(
    streams: Seq[DraftStream],
    times: KnownTimes | None = None,
    *,
    prompt: int = 0,
    most_tokens: int = 256,
    most_seconds: float = math.inf,
) -> StepOutlook:
    decodes = decodes_after([each.start for each in streams])
    shape = decodes.with_slice(0, prompt, 0) if prompt else decodes
    seconds = DraftSeconds(times or KnownTimes())
    outlook = outlook_of(shape, decodes, seconds, most_tokens)
    return outlook._replace(most_seconds=most_seconds)


def geometric(chance: float, count: int = 8) -> list[float]:
    return [chance ** (n + 1) for n in range(count)]


def counts(
    streams: Seq[DraftStream], times: KnownTimes | None = None, **options: float
) -> list[int]:
    return list(choose(looked_at(streams, times, **options), streams).counts)  # type: ignore[arg-type]


chances = st.lists(st.floats(0.0, 1.0), max_size=6).map(lambda found: sorted(found, reverse=True))
streams = st.lists(
    st.builds(
        DraftStream,
        start=st.integers(0, 200),
        chances=chances,
        lead=st.floats(-4.0, 4.0),
        constrained=st.booleans(),
    ),
    min_size=1,
    max_size=9,
)


@given(
    streams=streams,
    prompt=st.sampled_from([0, 0, 3, 90]),
    most_tokens=st.integers(0, 12),
    room=st.floats(0.5, 3.0),
    usual=st.integers(0, 20),
)
def test_what_is_chosen_pays_and_delays_nobody(
    streams: list[DraftStream], prompt: int, most_tokens: int, room: float, usual: int
) -> None:
    outlook = looked_at(streams, prompt=prompt, most_tokens=most_tokens)
    plain = outlook.seconds.plain(outlook.shape)
    outlook = outlook._replace(most_seconds=1.2 * plain * room)
    choice = choose(outlook, streams, usual=usual)
    assert choice.plain == plain
    assert len(choice.counts) == len(streams)
    assert sum(choice.counts) <= most_tokens
    gains = []
    for stream, count in zip(streams, choice.counts, strict=True):
        assert count <= len(stream.chances)
        gains.append(sum(stream.chances[:count]))
    if not any(choice.counts):
        assert choice.further == 0.0
        return
    expected = outlook.shape
    for stream, count in zip(streams, choice.counts, strict=True):
        expected = expected.with_drafts(stream.start, count)
    assert choice.shape == expected
    took = plain + choice.further
    assert took >= outlook.seconds.times.predict(expected)
    assert 1.2 * took <= outlook.most_seconds * (1 + 1e-9)
    decodes = outlook.alone
    width = len(streams)
    assert (width + sum(gains)) / (decodes + choice.further) > width / decodes
    for stream, gain in zip(streams, gains, strict=True):
        assert took / plain <= 1 + SLOWER + gain + max(stream.lead, 0.0) + 1e-9
    if prompt:
        assert took / plain <= 1 + SLOWER + 1e-9


def test_the_best_number_is_found_for_one_alone() -> None:
    for chance in (0.3, 0.6, 0.8, 0.95):
        one = DraftStream(100, geometric(chance, 16))
        plain = seconds_of(1)
        rates = {
            count: (1 + sum(one.chances[:count]))
            / (plain + MARGIN * (seconds_of(1 + count) - plain))
            for count in range(17)
        }
        for usual in (0, 1, 5, 16, 99):
            (chosen,) = choose(looked_at([one]), [one], usual=usual).counts
            # Not all numbers are tried, as the best is broad.
            assert rates[chosen] >= 0.98 * max(rates.values())
            assert rates[chosen] > rates[0]


def test_what_costs_as_much_as_it_is_worth_is_left() -> None:
    sure = [DraftStream(10, geometric(0.9))] * 4
    assert counts(sure, KnownTimes(linear)) == [0, 0, 0, 0]
    assert sum(counts(sure)) > 0


def test_likelier_drafts_come_first() -> None:
    found = counts([DraftStream(10, geometric(0.95), 4.0), DraftStream(10, geometric(0.3), 4.0)])
    assert found[0] > found[1]


def test_who_gains_nothing_is_not_delayed_unless_it_is_ahead() -> None:
    eager = DraftStream(10, geometric(0.95))
    assert counts([eager, DraftStream(10)]) == [0, 0]
    assert counts([eager, DraftStream(10, lead=-1.0)]) == [0, 0]
    assert counts([eager, DraftStream(10, lead=1.0)])[0] > 0
    assert counts([eager, DraftStream(10, geometric(0.8))])[0] > 0


def test_a_prompt_beside_is_hardly_delayed() -> None:
    eager = [DraftStream(10, geometric(0.95), 4.0)]
    few = sum(counts(eager, prompt=200))
    many = sum(counts(eager, KnownTimes(lambda tokens: 0.02 + 5e-3 * tokens), prompt=900))
    assert (few, many) == (2, 8)


def test_no_more_tokens_or_seconds_than_the_step_has() -> None:
    eager = [DraftStream(10, geometric(0.95))]
    assert counts(eager) == [5]
    assert counts(eager, most_tokens=2) == [2]
    # The bound is a fifth above what is expected.
    assert counts(eager, most_seconds=1.2 * seconds_of(4) + 1e-9) == [3]
    assert counts(eager, most_seconds=1.2 * seconds_of(1)) == [0]


def test_what_must_be_found_first_must_pay_for_that_too() -> None:
    eager = [DraftStream(10, geometric(0.9))]
    outlook = looked_at(eager)
    assert sum(choose(outlook._replace(find=lambda width: 1e-4 * width), eager).counts) > 0
    assert sum(choose(outlook._replace(find=lambda width: seconds_of(1)), eager).counts) == 0
    asked: list[int] = []

    def find(width: int) -> float:
        asked.append(width)
        return 0.0

    both = [DraftStream(10, [0.9]), DraftStream(10, [0.99, 0.98, 0.97])]
    choice = choose(looked_at(both)._replace(find=find), both)
    assert list(choice.counts) == [1, 3]
    assert [2, 1, 1] in [asked[n : n + 3] for n in range(len(asked))], "all that still want one"


def test_what_can_never_pay_is_seen_at_once() -> None:
    def opens(width: int, prompt: int = 0, times: KnownTimes | None = None) -> bool:
        outlook = looked_at([DraftStream(10)] * width, times, prompt=prompt)
        return may_pay(outlook, 10, constrained=False)

    assert [opens(width) for width in (1, 4, 5, 6, 64)] == [True, True, True, False, False]
    assert not opens(1, times=KnownTimes(linear))
    assert not opens(1, prompt=20)
    assert opens(1, prompt=200)
    one = looked_at([DraftStream(10)])
    assert not may_pay(one._replace(find=lambda width: 1.0), 10, constrained=False)


def test_a_probe_is_one_draft_that_delays_nobody_else() -> None:
    dear = KnownTimes(lambda tokens: 1.0 if tokens < 3 else 5.0)

    def probed(streams: list[DraftStream], **options: float) -> list[int]:
        return list(probe(looked_at(streams, dear, **options), streams).counts)  # type: ignore[arg-type]

    eager = DraftStream(10, geometric(0.9), 0.0)
    assert counts([DraftStream(10, geometric(0.3)), eager], dear) == [0, 0]
    assert probed([DraftStream(10), eager]) == [0, 0]
    assert probed([DraftStream(10, lead=4.0), eager]) == [0, 1]
    assert probed([DraftStream(10, geometric(0.3), 4.0), eager]) == [0, 1], "the likeliest"
    assert probed([DraftStream(10)]) == [0]
    assert probed([DraftStream(10, lead=4.0), eager], most_seconds=5.9) == [0, 0]


def test_nothing_to_choose_from_is_no_choice() -> None:
    assert choose(looked_at([DraftStream(1)]), [DraftStream(1)]) == DraftChoice(
        [0], seconds_of(1), 0.0, StepShape()
    )
