"""Who is left out: as few as possible, and whom the classes and tenants say."""

from __future__ import annotations

from itertools import combinations

from hypothesis import given
from hypothesis import strategies as st

from headway.scheduling.policy.pacing.overload import Job, flooding, left_out
from headway.types import SERVICE_CLASSES, ServiceClass
from tests.scheduling.policy.pacing.views import Seen

jobs = st.lists(st.tuples(st.integers(1, 9), st.integers(1, 25)), max_size=7).map(
    lambda pairs: sorted(pairs, key=lambda pair: pair[1])
)


def job(number: int, seconds: float, due: float, service_class: ServiceClass = "standard") -> Job:
    return Job(seqs=(Seen(id=number, service_class=service_class),), seconds=seconds, due=due)


def all_in_time(line: list[Job]) -> bool:
    total = 0.0
    for each in line:
        total += each.seconds
        if total > each.due:
            return False
    return True


@given(jobs)
def test_no_choice_leaves_fewer_late(pairs: list[tuple[int, int]]) -> None:
    line = [job(number, *pair) for number, pair in enumerate(pairs)]
    out = {each.seqs[0].id for each in left_out(line)}
    kept = [each for each in line if each.seqs[0].id not in out]
    assert all_in_time(kept)
    best = max(
        size
        for size in range(len(line) + 1)
        for chosen in combinations(line, size)
        if all_in_time(list(chosen))
    )
    assert len(kept) == best


def test_the_one_that_costs_most_is_left_out() -> None:
    line = [job(1, 5, 10), job(2, 2, 10), job(3, 4, 10)]
    assert [each.seqs[0].id for each in left_out(line)] == [1]


def test_a_lower_class_is_left_out_before_a_longer_prompt() -> None:
    line = [job(1, 5, 10, "interactive"), job(2, 2, 10, "batch"), job(3, 4, 10)]
    assert [each.seqs[0].id for each in left_out(line)] == [2]
    line = [job(1, 5, 10, "interactive"), job(2, 2, 10), job(3, 4, 10, "interactive")]
    assert [each.seqs[0].id for each in left_out(line)] == [2]


def test_nobody_is_left_out_where_all_fit() -> None:
    assert left_out([job(1, 5, 5), job(2, 2, 7)]) == []


def test_who_is_spared_is_left_out_last() -> None:
    begun = Job(seqs=(Seen(id=1),), seconds=5, due=10, spared=True)
    assert [each.seqs[0].id for each in left_out([begun, job(2, 2, 10), job(3, 4, 10)])] == [3]
    impossible = Job(seqs=(Seen(id=1),), seconds=15, due=10, spared=True)
    assert [each.seqs[0].id for each in left_out([impossible])] == [1]


@given(
    st.lists(
        st.tuples(
            st.integers(1, 9),
            st.integers(1, 60),
            st.sampled_from(SERVICE_CLASSES),
            st.booleans(),
        ),
        max_size=20,
    )
)
def test_each_time_the_worst_of_those_so_far_is_left_out(
    line: list[tuple[int, int, ServiceClass, bool]],
) -> None:
    """As the definition says it: search for the worst of all, whenever one is late."""
    jobs = [
        Job(seqs=(Seen(id=number, service_class=kind),), seconds=seconds, due=due, spared=spared)
        for number, (seconds, due, kind, spared) in enumerate(line)
    ]
    kept: list[Job] = []
    expected = []
    for each in jobs:
        kept.append(each)
        if sum(one.seconds for one in kept) > each.due:
            worst = min(
                kept,
                key=lambda one: (
                    one.spared,
                    -SERVICE_CLASSES.index(one.seqs[0].service_class),
                    -one.seconds,
                    one.seqs[0].id,
                ),
            )
            kept.remove(worst)
            expected.append(worst)
    assert left_out(jobs) == expected


def test_a_tenant_that_has_more_than_half_floods_if_there_are_others() -> None:
    def of(*tenants: str) -> str | None:
        return flooding(Seen(tenant=each) for each in tenants)

    assert of("a", "b", "a") == "a"
    assert of("a", "b") is None
    assert of("a", "b", "a", "c") is None
    assert of("a", "a") is None
    assert of() is None
