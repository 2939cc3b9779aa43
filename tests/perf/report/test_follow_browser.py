"""The slot charts of a report answer, in a real browser: to a mouse, a finger and the keyboard."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING

import pytest

from headway.perf.records.record import RequestRecord
from headway.perf.report.page import write_page
from headway.perf.report.run import Bar, Report, Run
from tests.server.page.conftest import SECONDS

if TYPE_CHECKING:
    from playwright.sync_api import Locator, Page

SENT = {f"request-{number}": 0.0 for number in range(1, 6)} | {"request-5": 1.0}
STATIC = (
    Bar(0, 0.0, 1.0, 7.0, "request-1"),
    Bar(1, 0.0, 1.0, 6.0, "request-2"),
    Bar(2, 0.0, 1.0, 4.1, "request-3"),
    Bar(0, 7.0, 8.0, 9.0, "request-4"),
    Bar(2, 7.0, 8.5, 10.0, "request-5"),
)
CONTINUOUS = (
    Bar(0, 0.0, 1.0, 7.0, "request-1"),
    Bar(1, 0.0, 1.0, 3.0, "request-2"),
    Bar(2, 0.0, 1.0, 4.0, "request-3"),
    Bar(1, 3.0, 4.0, 6.0, "request-4"),
    Bar(2, 4.0, 4.5, 5.5, "request-5"),
    Bar(2, 6.0, 6.5, 8.0, "request-5"),
)


def _run(system: str, bars: tuple[Bar, ...], slots: int | None = 3) -> Run:
    records = tuple(
        RequestRecord(
            id=name,
            due=sent,
            sent=sent,
            prompt_tokens=64,
            output_tokens=1234,
            cached_tokens=32,
        )
        for name, sent in SENT.items()
    )
    return Run(
        system=system,
        group="g",
        settings={"policy": system},
        summary={"output_throughput": 9.0},
        slots=slots,
        bars=bars,
        records=records,
    )


def _opened(page: Page, folder: Path, *runs: Run) -> Page:
    write_page(folder / "report.html", Report(title="t", about={}, runs=runs))
    page.goto((folder / "report.html").as_uri())
    return page


@pytest.fixture
def chart(browser_page: Page, tmp_path: Path) -> Page:
    runs = (_run("static", STATIC), _run("continuous", CONTINUOUS))
    return _opened(browser_page, tmp_path, *runs)


def lane(page: Page, place: int) -> Locator:
    return page.locator(".slots").nth(place)


def spot(page: Page, place: int, slot: int, seconds: float, ends: float) -> tuple[float, float]:
    """Where a time in a slot is, in pixels of the lane, which goes to `ends` seconds."""
    box = lane(page, place).bounding_box()
    assert box is not None
    return box["width"] * seconds / ends, box["height"] * (slot + 0.5) / 3


def hover(page: Page, place: int, slot: int, seconds: float, ends: float) -> None:
    x, y = spot(page, place, slot, seconds, ends)
    lane(page, place).hover(position={"x": x, "y": y})


def test_a_bar_that_is_pointed_at_says_what_it_is(chart: Page) -> None:
    hover(chart, 0, 2, 8.0, 10.0)
    tip = chart.locator(".tip")
    assert tip.locator("p").all_inner_texts() == [
        "Request 5, slot 3",
        "waited 6.00 s, prefilled 1.50 s, decoded 1.50 s",
        "64 prompt tokens, 32 cached; 1,234 answered",
        "Slot 3 was free from 4.10 s on, but it was let in only when request 1 left slot 1 at "
        "7.00 s.",
    ]
    # The same request is marked in the other system.
    assert chart.locator(".pointed[d^='M']").count() == 2
    hover(chart, 0, 2, 5.5, 10.0)
    assert tip.is_hidden(), "an idle slot is nobody's"


def test_a_tapped_request_is_followed_through_all_systems(chart: Page) -> None:
    x, y = spot(chart, 0, 2, 8.0, 10.0)
    lane(chart, 0).click(position={"x": x, "y": y})
    assert [each.get_attribute("d") or "" for each in chart.locator(".followed").all()] != ["", ""]
    rows = chart.locator(".details tbody tr").all_inner_texts()
    assert [row.split("\t")[:7] for row in rows] == [
        ["static", "6.00 s", "1.50 s", "1.50 s", "9.00 s", "32", "1,234"],
        ["continuous", "3.00 s", "1.00 s", "2.50 s", "7.00 s", "32", "1,234"],
    ]
    assert rows[1].endswith(
        "It waited until request 3 left slot 3 at 4.00 s. Preempted: 1 time, without a slot for "
        "500 ms."
    )
    assert chart.locator(".follow [type=text]").input_value() == "5"
    # Again, and nobody is followed.
    lane(chart, 0).click(position={"x": x, "y": y})
    assert chart.locator(".details").inner_text() == ""
    assert chart.locator(".following").count() == 0


def test_the_keyboard_walks_from_bar_to_bar(chart: Page) -> None:
    lane(chart, 1).focus()
    tip = chart.locator(".tip p").first
    for key, name in (
        ("ArrowRight", "Request 1, slot 1"),
        ("ArrowDown", "Request 4, slot 2"),
        ("ArrowLeft", "Request 2, slot 2"),
        ("ArrowDown", "Request 3, slot 3"),
        ("ArrowRight", "Request 5, slot 3"),
        ("ArrowUp", "Request 4, slot 2"),
    ):
        chart.keyboard.press(key)
        assert tip.inner_text() == name, key
    chart.keyboard.press("Enter")
    assert chart.locator(".details h3").inner_text() == "Request 4"
    chart.keyboard.press("Escape")
    assert chart.locator(".details").inner_text() == ""
    assert tip.is_hidden()


def test_a_request_is_followed_by_its_name(chart: Page) -> None:
    field = chart.locator(".follow [type=text]")
    field.fill("99")
    field.press("Enter")
    assert chart.locator(".problem").inner_text() == "There is no request 99 here."
    field.fill("4")
    field.press("Enter")
    assert chart.locator(".problem").is_hidden()
    assert chart.locator(".details h3").inner_text() == "Request 4"
    field.fill("")
    field.press("Enter")
    assert chart.locator(".details").inner_text() == ""


def test_the_play_head_says_what_happens_at_its_time(chart: Page) -> None:
    time = chart.locator(".follow [type=range]")
    time.focus()
    chart.keyboard.press("End")
    assert chart.locator(".head:visible").count() == 2
    moments = chart.locator(".moment")
    assert all("0 of 3 slots taken" in each for each in moments.all_inner_texts())
    axis = 10.0 / 0.87
    time.fill(str(round(1000 * 5.0 / axis)))
    static, continuous = moments.all_inner_texts()
    assert static.endswith("2 of 3 slots taken, 0 reading prompts; 2 requests waiting")
    assert continuous.endswith("3 of 3 slots taken, 0 reading prompts; 0 requests waiting")
    assert (time.get_attribute("aria-valuetext") or "").startswith(("5.0", "4.99"))


def test_it_plays_and_pauses(chart: Page) -> None:
    button = chart.locator(".play")
    button.click()
    assert button.inner_text() == "Pause"
    time = chart.locator(".follow [type=range]")
    _until(lambda: float(time.input_value()) > 0)
    button.click()
    assert button.inner_text() == "Play"
    # From the end it begins anew.
    time.fill("1000")
    button.click()
    _until(lambda: float(time.input_value()) < 900)
    button.click()


def _until(holds: Callable[[], bool]) -> None:
    """Wait, up to a bound; the page's policy lets no function in that would do so on the page."""
    ends = monotonic() + SECONDS
    while not holds():
        assert monotonic() < ends


def test_what_clients_saw_can_be_followed_too(browser_page: Page, tmp_path: Path) -> None:
    page = _opened(browser_page, tmp_path, _run("served", STATIC, slots=None))
    hover(page, 0, 1, 5.0, 10.0)
    assert page.locator(".tip p").all_inner_texts() == [
        "Request 2",
        "first token after 1.00 s, decoded 5.00 s",
        "64 prompt tokens, 32 cached; 1,234 answered",
    ]


def test_charts_that_are_too_long_stay_still(browser_page: Page, tmp_path: Path) -> None:
    bars = tuple(
        Bar(slot, place / 99, place / 99, (place + 0.9) / 99, f"{slot}-{place}")
        for slot in range(3)
        for place in range(6000)
    )
    page = _opened(browser_page, tmp_path, _run("long", bars))
    assert page.locator(".follow").count() == 0
    assert page.locator("script").count() == 0


@pytest.mark.parametrize("width", [390, 1440])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_what_is_shown_fits_and_is_accessible(chart: Page, width: int, scheme: str) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="needs axe")
    chart.emulate_media(color_scheme="dark" if scheme == "dark" else "light")
    chart.set_viewport_size({"width": width, "height": 900})
    lane(chart, 1).focus()
    chart.keyboard.press("ArrowRight")
    chart.keyboard.press("Enter")
    chart.locator(".follow [type=range]").fill("500")
    assert chart.evaluate("document.documentElement.scrollWidth") == width
    found = axe.Axe().run(chart).response["violations"]
    assert [each["id"] for each in found if each["impact"] in ("serious", "critical")] == []


def test_who_took_no_slot_here_is_not_said_to_be_undrawn(
    browser_page: Page, tmp_path: Path
) -> None:
    runs = (_run("static", STATIC), _run("continuous", CONTINUOUS[:3]))
    page = _opened(browser_page, tmp_path, *runs)
    field = page.locator(".follow [type=text]")
    field.fill("5")
    field.press("Enter")
    row = page.locator(".details tbody tr").nth(1)
    assert row.inner_text() == "continuous\ttook none of the slots in this chart"


def test_without_scripts_all_is_there_to_read(browser_page: Page, tmp_path: Path) -> None:
    runs = (_run("static", STATIC), _run("continuous", CONTINUOUS))
    write_page(tmp_path / "report.html", Report(title="t", about={}, runs=runs))
    browser = browser_page.context.browser
    assert browser is not None
    with browser.new_context(java_script_enabled=False) as context:
        page = context.new_page()
        page.goto((tmp_path / "report.html").as_uri())
        assert page.locator(".slots svg").count() == 2
        assert page.locator(".why").first.inner_text().startswith("Slot 3 waited 2.90 s for slot 1")
        assert page.locator(".follow").is_hidden()
