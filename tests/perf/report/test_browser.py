"""The page in a real browser: no complaint, nothing wider than the window, text not too small.

The page's policy lets no other script in, so another page holds it in a frame of a given width and
looks.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from html import unescape
from pathlib import Path
from typing import Any

import pytest

from headway.perf.report.page import render
from headway.perf.report.run import Report, Run
from tests.perf.report.fabricated import report

_BROWSER = shutil.which("chromium") or shutil.which("google-chrome")

pytestmark = pytest.mark.skipif(_BROWSER is None, reason="there is no Chromium here")

_LOOK = """<!doctype html><iframe src="page.html" style="border:0;width:%dpx;height:900px"></iframe>
<pre id="found"></pre><script>
onload = () => {
  const page = document.querySelector("iframe").contentDocument;
  const sized = selector => [...page.querySelectorAll(selector)].map(part => {
    const box = part.getBoundingClientRect();
    return [Math.round(box.width), Math.round(box.height)];
  });
  const texts = [...page.querySelectorAll("h1,h2,h3,p,li,td,th,dt,dd,span,small")];
  document.querySelector("#found").textContent = JSON.stringify({
    width: page.documentElement.scrollWidth,
    sections: sized("section").length,
    slots: sized(".slots svg:not(.marks)"),
    areas: sized(".area svg"),
    smallest: Math.min(...texts.map(part => parseFloat(getComputedStyle(part).fontSize))),
    paint: getComputedStyle(page.querySelector(".decode") || page.body).fill,
  });
};
</script>"""


def _look(folder: Path, made: Report, width: int) -> dict[str, Any]:
    """What a browser window of that width makes of the page; it must not complain."""
    assert _BROWSER is not None
    (folder / "page.html").write_text(render(made), encoding="utf-8")
    (folder / "look.html").write_text(_LOOK % width, encoding="utf-8")
    ended = subprocess.run(
        [
            _BROWSER,
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--hide-scrollbars",
            "--allow-file-access-from-files",
            "--enable-logging=stderr",
            f"--user-data-dir={folder / 'profile'}",
            "--virtual-time-budget=5000",
            "--dump-dom",
            (folder / "look.html").as_uri(),
        ],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    assert "CONSOLE" not in ended.stderr
    found = re.search(r'<pre id="found">(.+?)</pre>', ended.stdout, re.DOTALL)
    assert found is not None, ended.stdout[-2000:]
    seen: dict[str, Any] = json.loads(unescape(found[1]))
    return seen


@pytest.mark.parametrize("width", [390, 1280])
def test_the_page_fits_its_window_and_is_legible(tmp_path: Path, width: int) -> None:
    seen = _look(tmp_path, report(), width)
    assert seen["width"] == width
    assert seen["sections"] >= 8
    assert seen["smallest"] >= 13
    assert len(seen["slots"]) == 39
    # Those of closed groups take no room yet.
    assert all(wide > 40 and high >= 12 for wide, high in seen["slots"][:7])
    assert all(wide > 200 and high > 200 for wide, high in seen["areas"])
    assert seen["paint"] != "rgb(0, 0, 0)"


def test_long_words_do_not_widen_the_page(tmp_path: Path) -> None:
    word = "transformers_with_a_name_that_goes_on_and_on_without_any_space_at_all_" * 2
    run = Run(system=word, group=word, settings={word: word}, summary={"output_throughput": 3.0})
    made = Report(title=word, about={word: word}, runs=(run,), notes=(word,))
    assert _look(tmp_path, made, 390)["width"] == 390
