"""The page's files by themselves: nothing from elsewhere, nothing inline, names that fit."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from headway.perf.report.plot import POLICY_TONES
from headway.scheduling.policy import POLICIES
from headway.server.page.files import MEDIA_TYPES, page_files

ROOT = Path(__file__).parents[3]
STATIC = ROOT / "src" / "headway" / "server" / "page" / "static"
MOST_SENT = 100_000
"""Bytes of all files as browsers fetch them."""
MOST_LINES = 400

TEXTS = {path.name: path.read_text() for path in sorted(STATIC.iterdir())}
SCRIPTS = {name: text for name, text in TEXTS.items() if name.endswith(".js")}
HTML = TEXTS["index.html"]


class _Elements(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))


ELEMENTS = _Elements(HTML).found
IDS = [attributes["id"] for _, attributes in ELEMENTS if "id" in attributes]


def code_of(script: str) -> str:
    """A script without its comments."""
    return re.sub(r"/\*.*?\*/|(?<![:\"'`])//[^\n]*", "", script, flags=re.DOTALL)


def test_every_file_is_sent() -> None:
    assert set(page_files()) == set(TEXTS)
    assert all(path.suffix in MEDIA_TYPES for path in STATIC.iterdir())


def test_it_is_light() -> None:
    assert sum(len(file.packed) for file in page_files().values()) < MOST_SENT


@pytest.mark.parametrize("name", TEXTS)
def test_nothing_comes_from_elsewhere(name: str) -> None:
    namespace = "http://www.w3.org/2000/svg"
    text = TEXTS[name].replace(namespace, "")
    assert re.findall(r"(?:https?:)?//[a-z0-9-]+\.[a-z]+|@import|\burl\(", text) == []


@pytest.mark.parametrize("name", SCRIPTS)
def test_no_script_makes_html_or_code_of_text(name: str) -> None:
    assert len(SCRIPTS[name].splitlines()) <= MOST_LINES
    html = r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|DOMParser|srcdoc"
    assert re.findall(rf"{html}|\beval\(|new Function", code_of(SCRIPTS[name])) == []


def test_nothing_stands_inside_the_html_that_the_policy_forbids() -> None:
    for tag, attributes in ELEMENTS:
        assert "style" not in attributes
        assert not [name for name in attributes if name.startswith("on")]
        assert tag not in ("style", "iframe", "object", "embed", "base")
        if tag == "script":
            assert (attributes["src"] or "").startswith("page/")
    assert re.findall(r"<script[^>]*>[^<]", HTML) == []
    for name in re.findall(r"page/([\w.-]+)", HTML):
        assert name in TEXTS


def test_no_script_sets_styles_that_the_policy_forbids() -> None:
    for name, text in SCRIPTS.items():
        assert re.findall(r"setAttribute\(\s*[\"']style|[{,]\s*style:", code_of(text)) == [], name


def test_ids_are_unique_and_those_that_scripts_name_exist() -> None:
    assert len(IDS) == len(set(IDS))
    names = re.compile(r"(?:byId|getElementById)\(\"([\w-]+)\"\)|\bid: \"([\w-]+)\"")
    pairs = [pair for text in SCRIPTS.values() for pair in names.findall(text)]
    named = {name for pair in pairs for name in pair if name}
    assert len(named) > 30
    assert named - set(IDS) == set()
    for field in re.findall(r"id: \"(field-[\w-]+)\"", TEXTS["parameters.js"]):
        assert f"{field}-problem" in IDS


def test_every_field_has_a_label_and_every_button_a_name() -> None:
    labels = {attributes.get("for") for tag, attributes in ELEMENTS if tag == "label"}
    for tag, attributes in ELEMENTS:
        if tag in ("input", "textarea") and attributes.get("type") != "radio":
            assert attributes["id"] in labels
        for name in ("aria-controls", "aria-labelledby", "aria-describedby"):
            assert name not in attributes or attributes[name] in IDS
    assert re.findall(r"<button(?![^>]*aria-label)[^>]*>\s*</button>", HTML) == []


def test_imports_name_what_there_is() -> None:
    for text in SCRIPTS.values():
        for names, module in re.findall(r"import \{([^}]*)\} from \"\./([\w.]+)\"", text):
            assert module in SCRIPTS
            for name in filter(None, map(str.strip, names.split(","))):
                exported = rf"export (?:async )?(?:function\*?|class|const) {name}\b"
                assert re.search(exported, SCRIPTS[module]), f"{module} has no {name}"


def colours(selector: str) -> dict[str, str]:
    block = re.search(re.escape(selector) + r" \{(.*?)\n\}", TEXTS["style.css"], re.DOTALL)
    assert block is not None
    return dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6})", block[1]))


def luminance(colour: str) -> float:
    """Relative luminance as WCAG 2 has it."""
    parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    linear = [
        each / 12.92 if each <= 0.04045 else ((each + 0.055) / 1.055) ** 2.4 for each in parts
    ]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: str, other: str) -> float:
    lighter, darker = sorted((luminance(one), luminance(other)), reverse=True)
    return (lighter + 0.05) / (darker + 0.05)


@pytest.mark.parametrize("selector", [":root", ':root[data-theme="dark"]'])
def test_colours_can_be_read(selector: str) -> None:
    found = colours(selector)
    assert set(found) == set(colours(":root"))
    for ground in ("bg", "panel", "raised"):
        for text in ("fg", "muted", "accent", "bad"):
            assert contrast(found[text], found[ground]) >= 4.5, f"{text} on {ground}"
        for mark in ("edge", "focus", "good", "warn"):
            assert contrast(found[mark], found[ground]) >= 3, f"{mark} on {ground}"
    assert contrast(found["on-accent"], found["accent"]) >= 4.5
    assert contrast(found["accent"], found["tint"]) >= 4.5
    assert contrast(found["fg"], found["bad-tint"]) >= 4.5
    assert contrast(found["muted"], found["bad-tint"]) >= 4.5
    for name in POLICIES:
        assert contrast(found[f"policy-{name}"], found["bg"]) >= 3, name


def test_a_policy_has_its_colour_here_and_in_reports() -> None:
    css = (ROOT / "src/headway/perf/report/page.css").read_text()
    light, dark = (
        dict(re.findall(r"--t(\d): (#[0-9a-f]{6})", part)) for part in css.split("@media")[:2]
    )
    for name in POLICIES:
        tone = str(POLICY_TONES[name])
        assert colours(":root")[f"policy-{name}"] == light[tone], name
        assert colours(':root[data-theme="dark"]')[f"policy-{name}"] == dark[tone], name


def test_the_wheel_has_the_files() -> None:
    """As hatchling collects them, without compiling anything."""
    from hatchling.builders.wheel import WheelBuilder

    builder = WheelBuilder(str(ROOT))
    included = {Path(each.distribution_path) for each in builder.recurse_included_files()}
    for name in TEXTS:
        assert Path("headway/server/page/static") / name in included
