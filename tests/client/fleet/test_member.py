"""What a fleet tells routers of its engines and of requests."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from headway.client.fleet import shapes
from headway.client.fleet.shapes import ShapeMaker
from headway.routing import shape_of
from headway.types import Request
from tests.client.fleet.readers import Readers
from tests.client.fleet.scripted import scripted_fleet, turns
from tests.client.support import request


class HandClock:
    """A clock that says what it is told."""

    def __init__(self) -> None:
        self.seconds = 7.0

    def now(self) -> float:
        return self.seconds


def test_a_shape_is_of_the_time_and_the_tokens_that_the_request_has_by_then() -> None:
    clock = HandClock()
    make = ShapeMaker(named=True, clock=clock)
    asked = request("a", range(200), max_tokens=9)
    assert make(asked) == shape_of(asked, 7.0)
    clock.seconds = 8.0
    moved = replace(asked, generated=(4, 5))
    shape = make(moved)
    assert shape == shape_of(moved, 8.0)
    assert (shape.prompt_tokens, shape.max_tokens, shape.at) == (202, 7, 8.0)
    assert ShapeMaker(named=False, clock=clock)(asked).prefixes == ()


def test_the_prefixes_of_one_prompt_are_named_once(monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[str] = []

    def count(asked: Request, now: float, *, named: bool) -> object:
        if named:
            read.append(asked.id)
        return shape_of(asked, now, named=named)

    monkeypatch.setattr(shapes, "shape_of", count)
    make = ShapeMaker(named=True, clock=HandClock())
    first = request("a", range(200))
    found = [make(each) for each in (first, replace(first, id="b"), replace(first, id="c"))]
    assert read == ["a"]
    assert [each.id for each in found] == ["a", "b", "c"]
    assert found[0].prefixes == found[2].prefixes != ()
    other = make(replace(first, id="d", cache_salt="other"))
    assert read == ["a", "d"]
    assert other.prefixes != found[0].prefixes


@pytest.mark.parametrize("adopted", [0, 30])
def test_a_view_follows_its_engine_and_forgets_a_cache_that_is_gone(adopted: int) -> None:
    async def main() -> None:
        async with scripted_fleet(2, router="prefix") as scripted:
            readers = Readers(scripted.fleet)
            first, second = scripted.fleet.members
            shared = list(range(5, 305))
            readers.submit(request("a", shared, max_tokens=3))
            assert first.view.prefixes.known(shape_of(request("b", shared), 0.0).prefixes) > 0
            await scripted.round()
            assert first.view.decodes == 1
            # With one request each, a prompt goes where its prefix is.
            readers.submit(request("c", (1, 2)))
            readers.submit(request("b", shared, max_tokens=3))
            assert [scripted.home(name) for name in "acb"] == [0, 1, 0]
            await scripted.finish()
            assert (first.view.requests, first.view.held) == (0, 0)
            scripted.engines[0].die()
            await turns()
            scripted.settle()
            scripted.engines[0].revive(adopted=adopted)
            known = first.view.prefixes.known(shape_of(request("b", shared), 0.0).prefixes)
            assert (known > 0) == (adopted > 0)
            assert len(second.view.prefixes) == 0
            readers.check()

    asyncio.run(main())
