"""The Live view in a real browser: five questions are answered by the page alone, and it can be
used without a mouse, and without seeing the chart."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

from headway.config import EngineConfig, ServerConfig
from headway.server.page import news as news_module
from headway.types.batch_news import BatchNews
from headway.types.objectives import parse_objectives
from tests.server.conftest import Running, serving
from tests.server.fakes import FakeFleet
from tests.server.page.batches import end, news, runs, sequence
from tests.server.test_slo import busy_engine, pacing_of

if TYPE_CHECKING:
    from playwright.sync_api import Page

FULL = [runs(f"chatcmpl-{n:032x}", max_tokens=9 + n, generated=4) for n in range(8)]
MINE = sequence("chatcmpl-mine")


@pytest.fixture(scope="module")
def busy() -> Iterator[Running]:
    """A server whose engine knows its machine and its traffic; figures come often."""
    with pytest.MonkeyPatch.context() as patch, serving(engine=EngineConfig()) as server:
        patch.setattr(news_module, "FIGURES_SECONDS", 0.05)
        engine = busy_engine(pacing_of())
        server.engine.info, server.engine.stats = engine.info, engine.stats
        yield server


@pytest.fixture
def live(browser_page: Page, busy: Running) -> Page:
    browser_page.goto(busy.url + "/#live")
    busy.until(lambda: len(busy.engine.watchers) == 1)
    return browser_page


def tell(server: Running, told: BatchNews) -> None:
    server.call(lambda: [watcher(told) for watcher in server.engine.watchers])


def reads(page: Page, selector: str, text: str) -> None:
    """Wait until an element says so."""
    page.wait_for_selector(f"{selector}:has-text('{text}')", state="attached")


def test_why_is_my_request_waiting(live: Page, busy: Running) -> None:
    tell(busy, news(*FULL, waiting=[MINE]))
    reads(live, ".live-why", "1 request waits: 8 of 8 slots are taken")
    live.click(".live-table button:has-text('mine')")
    reads(live, ".live-answers dt", "Why waits mine")
    reads(live, ".live-why", "8 of 8 slots are taken; one is free after 5 more tokens at the")
    tell(busy, news(*FULL[1:], runs("chatcmpl-mine"), ended=[end(FULL[0])]))
    reads(live, ".live-why", "Answers: token 5 of at most 10")
    # What is over is remembered by the clock that the figures have.
    now = time.monotonic()
    ended = [end(runs("chatcmpl-mine", generated=9), at=now)]
    tell(busy, news(*FULL[1:], ended=ended, at=now))
    reads(live, ".live-why", "with 9 tokens: it was complete.")


def test_which_slots_idle(live: Page, busy: Running) -> None:
    tell(busy, news(*FULL[:6]))
    reads(live, ".live-idle", "2 of 8 slots idle (7, 8): nobody waits for them.")
    reads(live, ".live-figures", "6 / 8")


def test_what_binds(live: Page, busy: Running) -> None:
    tell(busy, news(*FULL))
    reads(live, ".live-binds", "Arrivals bind: what comes needs ")


def test_what_does_a_token_cost(live: Page, busy: Running) -> None:
    tell(busy, news(*FULL))
    reads(live, "main#live >> dl", "Give what the machine costs an hour")
    live.fill("#live-price", "2.50")
    reads(live, ".live-cost", "with a full batch")
    live.reload()
    assert live.input_value("#live-price") == "2.50"


def test_what_happens_if_i_ask_for_30_ms_tpot(live: Page, busy: Running) -> None:
    live.fill("#live-tpot", "30")
    live.click("button:text-is('Ask')")
    reads(live, ".live-answer", "tpot=30ms cannot be held here; the nearest that can is tpot=")
    live.fill("#live-tpot", "400")
    live.press("#live-tpot", "Enter")
    reads(live, ".live-answer", "With tpot=400ms: ")
    assert busy.llm.objectives["standard"] == ()
    live.click("text=Make it the default")
    reads(live, ".live-answer", "are held to tpot=400ms.")
    assert busy.llm.objectives["standard"] == parse_objectives("tpot=400ms")
    reads(live, ".live-objectives", "Requests that bring none are held to tpot=400ms.")
    live.fill("#live-tpot", "")
    live.click("text=Make it the default")
    reads(live, ".live-answer", "held to none.")


def test_it_is_used_with_the_keyboard(live: Page, busy: Running) -> None:
    tell(busy, news(*FULL))
    reads(live, ".live-idle", "No slot is idle")
    live.focus(".live-chart")
    live.keyboard.press("Space")
    reads(live, ".live-controls button", "Go on")
    live.keyboard.press("ArrowLeft")
    live.keyboard.press("End")
    reads(live, ".live-controls button", "Pause")
    live.keyboard.press("ArrowLeft")
    reads(live, ".live-controls button", "Go on")
    live.focus(".live-table button >> nth=2")
    live.keyboard.press("Enter")
    live.wait_for_selector(".live-table tr:nth-child(3) [aria-pressed=true]")
    reads(live, ".live-answers dt", "What does")
    live.click(".live-controls button")


def test_a_bar_is_tapped(live: Page, busy: Running) -> None:
    tell(busy, news(*FULL))
    reads(live, ".live-idle", "No slot is idle")
    box = live.locator(".live-canvas").bounding_box()
    assert box is not None
    live.mouse.click(box["x"] + box["width"] - 10, box["y"] + 40 + 14 + 22 * 3 + 8)
    reads(live, "tr[data-selected] td:first-child", "4")


@pytest.fixture
def pair(browser_page: Page) -> Iterator[tuple[Page, Running]]:
    """A server with two engines, and a response cache over them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(news_module, "FIGURES_SECONDS", 0.05)
        config = ServerConfig(port=0, replicas=2, response_cache=2**20)
        with serving(config=config) as server:
            browser_page.goto(server.url + "/#live")
            server.until(lambda: len(server.engine.watchers) == 1)
            yield browser_page, server
            browser_page.goto("about:blank")


def test_two_replicas_have_slots_of_their_own(pair: tuple[Page, Running]) -> None:
    page, server = pair
    assert isinstance(server.engine, FakeFleet)
    fleet = server.engine
    tell(server, news(*FULL, waiting=[MINE], replica=0))
    tell(server, news(runs("chatcmpl-there"), replica=1))
    reads(page, ".live-figures", "9 / 16")
    reads(page, ".live-why", "8 of 8 slots of replica 0 are taken")
    reads(page, ".live-idle", "7 of 16 slots idle (7 of replica 1)")
    reads(page, ".live-replicas", "All 2 replicas serve.")
    reads(page, ".live-table", "replica 1, 1")
    server.call(lambda: fleet.become(1, "restarting"))
    reads(page, ".live-replicas", "1 of 2 replicas serve; replica 1 is restarting.")
    # The first slot of the second group, below the first's eight and two headings.
    box = page.locator(".live-canvas").bounding_box()
    assert box is not None
    first = 40 + 14 + 16
    page.mouse.click(box["x"] + box["width"] - 10, box["y"] + first + 8 * 16 + 16 + 8)
    reads(page, "tr[data-selected] td:first-child", "replica 1, 1")
    server.call(lambda: fleet.statuses.pop(1))
    reads(page, ".live-figures", "8 / 8")
    page.wait_for_selector(".live-replicas", state="hidden")


def test_answers_of_the_response_cache_are_counted(pair: tuple[Page, Running]) -> None:
    page, server = pair
    figure = page.locator(".figure", has_text="Answers kept")
    assert figure.is_hidden(), "nothing was asked yet"
    asked = {"prompt": "x", "max_tokens": 2, "temperature": 0}
    with server.http() as http:
        for _ in range(2):
            http.post("/v1/completions", json=asked).raise_for_status()
    figure.wait_for(state="visible")
    reads(page, ".live-figures", " %")


def test_screen_readers_hear_how_it_goes(live: Page, busy: Running) -> None:
    tell(busy, news(*FULL, waiting=[MINE]))
    reads(live, "[aria-live=polite]", "8 of 8 slots taken, 1 waiting")
    assert live.locator("[role=img][aria-label]").count() == 1


def test_nobody_is_listened_to_on_the_other_view(live: Page, busy: Running) -> None:
    live.click("#nav-try")
    busy.until(lambda: not busy.engine.watchers)
    live.click("#nav-live")
    busy.until(lambda: len(busy.engine.watchers) == 1)
    tell(busy, news(*FULL[:2]))
    reads(live, ".live-idle", "6 of 8 slots idle")


def test_it_fits_a_phone(live: Page, busy: Running) -> None:
    live.set_viewport_size({"width": 390, "height": 844})
    tell(busy, news(*FULL, waiting=[MINE]))
    reads(live, ".live-why", "1 request waits")
    wide = live.evaluate("document.querySelector('#live').scrollWidth")
    assert wide <= 390
