"""Who is next where grammars wait to be checked."""

from __future__ import annotations

import asyncio
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headway.errors import Overloaded
from headway.llm.grammar_queue import MAX_WAITING, GrammarJob, GrammarQueue
from headway.types import Grammar


class Line:
    """A queue, and jobs for it on an event loop that never runs."""

    def __init__(self) -> None:
        self.queue = GrammarQueue()
        self._loop = asyncio.new_event_loop()
        self._loop.close()

    def add(self, tenant: str, text: str = "a") -> GrammarJob:
        grammar = Grammar(kind="regex", text=text)
        job = GrammarJob(grammar, tenant, asyncio.Future(loop=self._loop))
        self.queue.add(job)
        return job

    def order(self) -> list[str]:
        found: list[str] = []
        while (job := self.queue.next()) is not None:
            found.append(job.tenant + job.grammar.text)
        return found


def test_tenants_take_turns_and_each_keeps_its_order() -> None:
    line = Line()
    for text in "123":
        line.add("a", text)
    line.add("b", "1")
    line.add("c", "1")
    line.add("b", "2")
    assert line.order() == ["a1", "b1", "c1", "a2", "b2", "a3"]


def test_who_took_all_places_gives_some_to_others() -> None:
    line = Line()
    jobs = [line.add("greedy", str(n)) for n in range(MAX_WAITING)]
    with pytest.raises(Overloaded, match="try again later") as caught:
        line.add("greedy")
    assert caught.value.retry_after == 1.0
    line.add("late")
    assert len(line.queue) == MAX_WAITING
    assert isinstance(jobs[-1].error.exception(), Overloaded)
    assert not jobs[-2].error.done()
    assert line.order()[:2] == ["greedy0", "latea"]


def test_who_left_is_not_asked_for() -> None:
    line = Line()
    first, second = line.add("a", "1"), line.add("b", "1")
    line.queue.discard(first)
    line.queue.discard(first)
    assert line.order() == ["b1"]
    line.queue.discard(second)


@given(st.lists(st.sampled_from("abcdef"), min_size=1, max_size=4 * MAX_WAITING))
def test_no_tenant_is_refused_while_another_has_two_more(tenants: list[str]) -> None:
    line, waiting = Line(), Counter[str]()
    jobs: list[GrammarJob] = []
    for tenant in tenants:
        try:
            jobs.append(line.add(tenant))
        except Overloaded:
            assert waiting.total() == MAX_WAITING
            assert max(waiting.values()) - waiting[tenant] <= 1
        waiting = Counter(job.tenant for job in jobs if not job.error.done())
        assert len(line.queue) == waiting.total() <= MAX_WAITING
