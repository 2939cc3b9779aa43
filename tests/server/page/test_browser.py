"""The page as its readers use it, in a real browser over the fake model."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal

import pytest

from headway.config import ServerConfig
from tests.server.conftest import MODEL, Running, serving

if TYPE_CHECKING:
    from playwright.sync_api import Page, Route

ANSWER = ".message.assistant:not(.running)"


@pytest.fixture
def page(browser_page: Page, server: Running) -> Page:
    """The Try view of a server that needs no key."""
    browser_page.goto(server.url + "/")
    browser_page.wait_for_selector("#health[data-looks=good]")
    return browser_page


def ask(page: Page, text: str) -> None:
    page.fill("#prompt", text)
    page.press("#prompt", "Enter")


def answered(page: Page, count: int = 1) -> str:
    """The text of the last of so many answers."""
    answers = page.locator(ANSWER)
    answers.nth(count - 1).wait_for()
    assert answers.count() == count
    return str(answers.last.locator(".message-body").inner_text())


def figures(page: Page) -> dict[str, str]:
    rows = page.locator(f"{ANSWER} >> nth=-1 >> .answer-figures > div").all()
    return {row.locator("dt").inner_text(): row.inner_text() for row in rows}


def saying(*deltas: dict[str, Any], finish: str = "stop") -> Callable[[Route], None]:
    """A server's stream of these deltas."""
    chunks: list[dict[str, Any]] = [
        {"choices": [{"index": 0, "delta": each, "finish_reason": None}]} for each in deltas
    ]
    chunks.append({"choices": [{"index": 0, "delta": {}, "finish_reason": finish}]})
    body = "".join(f"data: {json.dumps(each)}\n\n" for each in chunks) + "data: [DONE]\n\n"
    return lambda route: route.fulfill(body=body, content_type="text/event-stream")


def test_a_chat_is_answered(page: Page, server: Running) -> None:
    page.fill("#field-max-tokens", "5")
    page.fill("#field-system", "Be brief.")
    ask(page, "Hello")
    assert answered(page) == "abcde"
    prompt, *_ = server.llm.asked[-1]
    assert "".join(map(chr, prompt)) == "system:Be brief.;user:Hello;assistant:"
    shown = figures(page)
    assert "5 tokens" in shown["Answer"]
    assert "2 tokens" in shown["Cached"]
    assert "limit" in shown["End"]
    assert re.search(r"\d (ms|s)$", shown["First token"])
    page.fill("#field-max-tokens", "2")
    ask(page, "And?")
    assert answered(page, 2) == "ab"
    prompt, *_ = server.llm.asked[-1]
    assert "user:Hello;assistant:abcde;user:And?;" in "".join(map(chr, prompt))


def test_an_answer_is_stopped(page: Page, server: Running) -> None:
    server.hold()
    stops: tuple[Callable[[], None], ...] = (
        lambda: page.click("#send"),
        lambda: page.press("#prompt", "Escape"),
    )
    for stop in stops:
        ask(page, "Hello")
        page.wait_for_selector(".message.running")
        assert page.inner_text("#send") == "Stop"
        server.until(lambda: bool(server.engine.running))
        stop()
        server.until(lambda: not server.engine.running)
        page.wait_for_selector(ANSWER)
        assert "stopped by you" in figures(page)["End"]
        assert page.inner_text("#send") == "Send"
        page.click("#new-conversation")
    server.go_on()


def test_a_completion_goes_on_with_the_text(page: Page, server: Running) -> None:
    page.check("#mode-completion")
    assert page.is_disabled("#field-system")
    assert page.is_disabled("#field-tools")
    page.fill("#field-max-tokens", "3")
    ask(page, "Once")
    assert answered(page) == "abc"
    prompt, *_ = server.llm.asked[-1]
    assert "".join(map(chr, prompt)) == "\x02Once"


def test_conversations_are_there_after_a_reload(page: Page, server: Running) -> None:
    page.fill("#field-max-tokens", "3")
    for text in ("First", "Second"):
        page.click("#new-conversation")
        ask(page, text)
        answered(page)
    page.reload()
    titles = page.locator(".conversation")
    assert titles.all_inner_texts() == ["Second", "First"]
    assert answered(page) == "abc"
    assert page.input_value("#field-max-tokens") == "3"
    page.click(".conversation >> text=First")
    assert page.inner_text(".message.user .message-body") == "First"
    page.on("dialog", lambda dialog: dialog.accept())
    page.hover(".conversation >> text=First")
    page.click("[aria-label='Delete First']")
    page.reload()
    assert titles.all_inner_texts() == ["Second"]
    with page.expect_download() as downloading:
        page.click("#export")
    exported = json.loads(downloading.value.path().read_text())
    assert [each["title"] for each in exported["conversations"]] == ["Second"]
    page.click("#delete-all")
    page.reload()
    assert titles.count() == 0


def test_again_and_edit(page: Page, server: Running) -> None:
    page.fill("#field-max-tokens", "3")
    ask(page, "Hello")
    answered(page)
    page.fill("#field-max-tokens", "4")
    page.click("text=Try again")
    page.wait_for_selector(f"{ANSWER}:has-text('abcd')")
    page.click("text=Edit")
    assert page.input_value("#prompt") == "Hello"
    assert page.locator(".message").count() == 0


def test_examples_fill_in_what_they_need(page: Page, server: Running) -> None:
    before = len(server.llm.asked)
    page.click(".example >> text=schema")
    assert json.loads(page.input_value("#field-schema"))["type"] == "object"
    page.click(".example >> text=tool")
    assert json.loads(page.input_value("#field-tools"))[0]["name"] == "weather"
    assert page.input_value("#prompt") != ""
    assert page.locator(".problem:visible").count() == 0
    page.check("#mode-completion")
    page.click(".example")
    assert page.input_value("#prompt") == "Once upon a time"
    assert len(server.llm.asked) == before


def test_what_a_model_writes_is_text(page: Page, server: Running) -> None:
    page.route("**/v1/chat/completions", saying({"content": "<img src=x onerror=alert(1)>**b**"}))
    ask(page, "<b>Hello</b>")
    assert answered(page) == "<img src=x onerror=alert(1)>b"
    assert page.inner_text(".message.user .message-body") == "<b>Hello</b>"
    assert page.locator("#messages img, #messages b").count() == 0
    assert page.inner_text(".markdown strong") == "b"


def test_a_call_of_a_tool_wants_its_result(page: Page, server: Running) -> None:
    bodies: list[Any] = []
    page.on("request", lambda sent: bodies.append(sent.post_data_json) if sent.post_data else None)
    call = {"index": 0, "id": "c1", "function": {"name": "weather", "arguments": '{"in":"Ulm"}'}}
    page.fill("#field-tools", '[{"name": "weather"}]')
    page.route(
        "**/v1/chat/completions", saying({"tool_calls": [call]}, finish="tool_calls"), times=1
    )
    ask(page, "Is it cold?")
    assert '"in": "Ulm"' in answered(page)
    assert page.inner_text("#prompt-label") == "Result of weather, for the model"
    page.route("**/v1/chat/completions", saying({"reasoning_content": "Hm"}, {"content": "Yes."}))
    ask(page, "-3 °C")
    assert "Yes." in answered(page, 2)
    assert page.locator(".reasoning").last.inner_text().startswith("Reasoning")
    assert bodies[0]["tools"] == [{"type": "function", "function": {"name": "weather"}}]
    assert bodies[1]["messages"][-1] == {
        "role": "tool",
        "tool_call_id": "c1",
        "content": "-3 °C",
    }


def test_a_refusal_shows_at_its_field(page: Page, server: Running) -> None:
    page.fill("#field-tools", '[{"name": "not a name"}]')
    ask(page, "Hello")
    page.wait_for_selector(".failure")
    assert "HTTP 400" in page.inner_text(".failure")
    assert page.get_attribute("#field-tools", "aria-invalid") == "true"
    assert "name" in page.inner_text("#field-tools-problem")


def test_a_slip_is_told_before_anything_is_sent(page: Page, server: Running) -> None:
    before = len(server.llm.asked)
    page.fill("#field-temperature", "warm")
    assert "must be a number" in page.inner_text("#field-temperature-problem")
    ask(page, "Hello")
    assert page.evaluate("document.activeElement.id") == "field-temperature"
    assert page.input_value("#prompt") == "Hello"
    assert len(server.llm.asked) == before
    page.click("#reset-parameters")
    assert page.is_hidden("#field-temperature-problem")


def test_the_code_is_the_request_that_is_sent(page: Page, server: Running) -> None:
    page.fill("#field-seed", "7")
    page.fill("#prompt", "It's")
    code = page.inner_text("#code-text")
    with page.expect_request("**/v1/chat/completions") as asked:
        page.press("#prompt", "Enter")
    answered(page)
    for shown in (code, page.inner_text("#code-text")):
        quoted = shown.partition("-d '")[2].rpartition("'")[0].replace("'\\''", "'")
        assert json.loads(quoted) == asked.value.post_data_json
    page.check("#code-python")
    assert "client.chat.completions.create(" in page.inner_text("#code-text")
    assert MODEL in page.inner_text("#code-text")


def test_a_key_is_asked_for_and_kept_for_the_tab(browser_page: Page) -> None:
    page = browser_page
    with serving(config=ServerConfig(port=0, api_key=("s3cret",))) as server:
        page.goto(server.url + "/")
        page.wait_for_selector("#key-dialog[open]")
        page.fill("#key-input", "wrong")
        page.click("text=Use this key")
        page.wait_for_selector("#key-wrong:visible")
        page.fill("#key-input", "s3cret")
        page.press("#key-input", "Enter")
        page.wait_for_selector(f"#model-name:has-text('{MODEL}')")
        page.fill("#field-max-tokens", "2")
        ask(page, "Hello")
        assert answered(page) == "ab"
        assert "s3cret" not in page.evaluate("JSON.stringify(localStorage)")
        assert "s3cret" not in page.inner_text("#code-text")
        page.reload()
        page.wait_for_selector(f"#model-name:has-text('{MODEL}')")
        page.goto("about:blank")


def test_a_reader_without_a_key_is_left_alone(browser_page: Page) -> None:
    page = browser_page
    with serving(config=ServerConfig(port=0, api_key=("s3cret",))) as server:
        page.goto(server.url + "/")
        page.wait_for_selector("#key-dialog[open]")
        page.keyboard.press("Escape")
        page.wait_for_selector("#key-dialog", state="hidden")
        page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")
        page.wait_for_timeout(200)
        assert page.is_hidden("#key-dialog")
        ask(page, "Hello")
        page.wait_for_selector("#key-dialog[open]")
        page.keyboard.press("Escape")
        page.wait_for_selector(".failure")
        assert "key" in page.inner_text(".failure")
        page.goto("about:blank")


def test_a_server_that_starts_says_so(browser_page: Page) -> None:
    with serving(ready=False) as server:
        browser_page.goto(server.url + "/")
        browser_page.wait_for_selector("#health:has-text('starting')")
        browser_page.goto("about:blank")


def test_views_and_colours(page: Page, server: Running) -> None:
    assert page.is_visible("#try")
    page.click("#nav-live")
    page.wait_for_selector("#live", state="visible")
    page.wait_for_selector("#try", state="hidden")
    assert page.get_attribute("#nav-live", "aria-current") == "page"
    page.go_back()
    page.wait_for_selector("#try", state="visible")
    page.emulate_media(color_scheme="dark")
    page.wait_for_selector("html[data-theme=dark]")
    page.click("#theme-button")
    page.wait_for_selector("html[data-theme=light]")
    page.reload()
    page.wait_for_selector("html[data-theme=light]")
    assert page.get_attribute("#theme-button", "aria-label") == "Colours: light"


def test_it_fits_a_telephone(page: Page, server: Running) -> None:
    page.set_viewport_size({"width": 390, "height": 780})
    page.route("**/v1/chat/completions", saying({"content": f"```\n{'x' * 300}\n```\n{'y' * 300}"}))
    ask(page, "z" * 300)
    answered(page)
    sides = page.evaluate("(({scrollWidth, clientWidth}) => [scrollWidth, clientWidth])(talk)")
    assert sides[0] == sides[1], "messages wrap"
    for name in ("conversations", "settings"):
        page.click(f"#toggle-{name}")
        assert page.is_visible(f"#{name}")
        assert page.get_attribute(f"#toggle-{name}", "aria-expanded") == "true"
        assert page.evaluate("document.documentElement.scrollWidth") <= 390
    assert page.is_hidden("#conversations")
    page.click("#toggle-settings")
    assert page.is_hidden("#settings")
    assert page.evaluate("document.documentElement.scrollWidth") <= 390


def test_nothing_goes_anywhere_else(page: Page, server: Running) -> None:
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.reload()
    page.wait_for_selector("#health[data-looks=good]")
    page.click("#nav-live")
    page.wait_for_timeout(100)
    assert len(asked) > 10
    assert [url for url in asked if not url.startswith(server.url + "/")] == []


RICH = "# A\n\nb `c` **d**\n\n- e\n\n> f\n\n```py\ng = 1\n```"


def bring_into(page: Page, state: str) -> None:
    if state == "answered":
        says = saying({"reasoning_content": "h"}, {"content": RICH})
        page.route("**/v1/chat/completions", says)
        ask(page, "Hello")
        answered(page)
    elif state == "refused":
        page.fill("#field-tools", '[{"name": "not a name"}]')
        ask(page, "Hello")
        page.wait_for_selector(".failure")
    elif state == "a key is wanted":
        page.click("#key-button")
    elif state == "live":
        page.click("#nav-live")


@pytest.mark.parametrize("colours", ["light", "dark"])
@pytest.mark.parametrize("state", ["new", "answered", "refused", "a key is wanted", "live"])
def test_nothing_stands_in_the_way_of_assistive_tools(
    page: Page, server: Running, state: str, colours: Literal["light", "dark"]
) -> None:
    """Nothing that axe-core calls serious, colours and all."""
    axe = pytest.importorskip("axe_playwright_python.sync_playwright")
    page.emulate_media(color_scheme=colours)
    bring_into(page, state)
    found = axe.Axe().run(page).response["violations"]
    serious = [each for each in found if each["impact"] in ("serious", "critical")]
    assert [(each["id"], [node["html"] for node in each["nodes"]]) for each in serious] == []
